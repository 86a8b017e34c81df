package shell

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"sync"

	"golang.org/x/sync/errgroup"

	"komainu/appliance/agent"
	"komainu/drivers/listen"
	"komainu/drivers/orders"
	"komainu/failover/machine"
)

// Orders is how this box asks others and is asked.
type Orders struct {
	Listen []netip.AddrPort // none: asks only
	TLS    *tls.Config
	Peers  map[string]string // site name → "addr:port"
}

// ordering carries orders in and out, and brings replies to who waits.
type ordering struct {
	client  *orders.Client
	peers   map[string]string
	mu      sync.Mutex
	waiting map[string][]chan machine.Reply // by order id
}

func (s *Shell) openOrders(ctx context.Context, g *errgroup.Group) error {
	s.orders = &ordering{waiting: map[string][]chan machine.Reply{}}
	o := s.cfg.Orders
	if o == nil {
		return nil
	}
	s.orders.client, s.orders.peers = &orders.Client{TLS: o.TLS}, o.Peers
	g.Go(func() error {
		<-ctx.Done()
		return s.orders.client.Close()
	})
	for _, addr := range o.Listen {
		ln, err := listen.TCP(ctx, addr)
		if err != nil {
			return fmt.Errorf("orders: %w", err)
		}
		g.Go(func() error {
			return orders.Serve(ctx, ln, o.TLS, func(ctx context.Context, peer string, body json.RawMessage) (any, error) {
				var in machine.Order
				if err := json.Unmarshal(body, &in); err != nil {
					return nil, fmt.Errorf("order from %s: %w", peer, err)
				}
				return s.submit(ctx, peer, in)
			})
		})
	}
	return nil
}

// submit gives the agent an order and waits for the final reply.
func (s *Shell) submit(ctx context.Context, from string, o machine.Order) (machine.Reply, error) {
	w := s.orders
	c := make(chan machine.Reply, 1)
	w.mu.Lock()
	w.waiting[o.ID] = append(w.waiting[o.ID], c)
	w.mu.Unlock()
	s.event(ctx, agent.Ordered{From: from, Order: o})
	select {
	case r := <-c:
		return r, nil
	case <-ctx.Done():
		w.mu.Lock()
		delete(w.waiting, o.ID)
		w.mu.Unlock()
		return machine.Reply{}, ctx.Err()
	}
}

func (w *ordering) answer(r machine.Reply) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.waiting[r.ID] {
		c <- r
	}
	delete(w.waiting, r.ID)
}

func (s *Shell) sendOrder(ctx context.Context, w agent.SendOrder) agent.Done {
	addr, ok := "", false
	if s.orders.client != nil {
		addr, ok = s.orders.peers[w.Peer]
	}
	if !ok {
		return failed("order-no-address", fmt.Errorf("no address for orders to %q", w.Peer))
	}
	var r machine.Reply
	err := s.orders.client.Do(ctx, addr, w.Peer, w.Order, &r)
	var refusal *orders.Refusal
	if errors.As(err, &refusal) {
		return failed("order-refused", err)
	}
	if err != nil { // it may or may not have arrived
		return agent.Done{Outcome: agent.Unknown, Code: "order-unanswered", Args: []string{err.Error()}}
	}
	return agent.Done{Value: r}
}
