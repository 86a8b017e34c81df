package console

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"

	"komainu/appliance/control"
	"komainu/appliance/say"
	"komainu/failover/machine"
)

// Service are the orders to a group.
func Service() []Command {
	order := func(verb, help string, kind machine.OrderKind) Command {
		return Command{
			Path: []string{"service", verb}, Role: control.Operator, Help: help,
			Args: []Arg{{Name: "GROUP", Complete: groups}}, Options: []string{"reason"},
			Run: func(ctx context.Context, in *Invocation) error {
				return in.order(ctx, control.Order{Kind: kind, Group: in.Args[0]})
			},
		}
	}
	return []Command{
		order("hold", "usage-hold", machine.Hold),
		order("open", "usage-open", machine.Open),
		order("release", "usage-release", machine.Release),
		{
			Path: []string{"service", "switch"}, Role: control.Operator, Help: "usage-switch",
			Args: []Arg{{Name: "GROUP", Complete: groups}, {Name: "WHERE", Values: []string{"local", "dc"}}}, Options: []string{"reason"},
			Run: func(ctx context.Context, in *Invocation) error {
				kind := machine.SwitchLocal
				if in.Args[1] == "dc" {
					kind = machine.SwitchDC
				}
				return in.order(ctx, control.Order{Kind: kind, Group: in.Args[0]})
			},
		},
		order("write", "usage-write", machine.Write),
	}
}

// groups are the names of the agent's groups, for Tab.
func groups(ctx context.Context, in *Invocation) []string {
	var st control.Status
	if err := in.Agent.Get(ctx, control.StatusPath, &st); err != nil {
		return nil
	}
	var names []string
	for _, g := range st.Groups {
		names = append(names, g.Name)
	}
	return names
}

// Return are the orders of a return.
func Return() []Command {
	return []Command{{
		Path: []string{"return", "accept-orphans"}, Role: control.Operator, Help: "usage-orphans",
		Args: []Arg{{Name: "N"}, {Name: "GROUP", Optional: true, Complete: groups}}, Options: []string{"reason"},
		Run: acceptOrphans,
	}}
}

func acceptOrphans(ctx context.Context, in *Invocation) error {
	n, err := strconv.ParseInt(in.Args[0], 10, 32)
	if err != nil || n < 0 {
		return usage("usage-argument", "accept-orphans", "N")
	}
	group := in.Args[1]
	if group == "" {
		var st control.Status
		if err := in.Agent.Get(ctx, control.StatusPath, &st); err != nil {
			return err
		}
		if len(st.Groups) != 1 {
			return usage("usage-argument", "accept-orphans", "N GROUP")
		}
		group = st.Groups[0].Name
	}
	return in.order(ctx, control.Order{Kind: machine.AcceptOrphans, Group: group, Count: int32(n)})
}

// order posts o, waits for its end and shows it.
func (in *Invocation) order(ctx context.Context, o control.Order) error {
	o.ID, o.By, o.Reason = rand.Text(), in.User, in.Option["reason"]
	var r control.Reply
	if err := in.Agent.Post(ctx, control.OrdersPath, o, &r); err != nil {
		return err
	}
	if in.JSON {
		if err := json.NewEncoder(in.Out).Encode(r); err != nil {
			return err
		}
	}
	if !r.OK {
		return &control.Error{Code: r.Code, Where: o.Group, Args: r.Args}
	}
	if in.JSON {
		return nil
	}
	_, err := fmt.Fprintln(in.Out, strings.TrimSpace(o.Group+": "+say.Text(in.Lang, r.Code, r.Args...)))
	return err
}

// Config are the commands on configuration files; check reports on one file,
// in full and in the given language, and tells whether it is good.
func Config(check func(out io.Writer, file, lang string) bool) []Command {
	return []Command{{
		Path: []string{"config", "check"}, Role: control.Viewer, Help: "usage-config-check",
		Args: []Arg{{Name: "FILE"}},
		Run: func(_ context.Context, in *Invocation) error {
			if !check(in.Out, in.Args[0], in.Lang) {
				return errReported
			}
			return nil
		},
	}}
}
