package vici

import (
	"sync"
	"testing"
	"time"
)

// TestTheLastWordIsTheLatestState: a look has seen two tunnels being negotiated,
// and while it tells so, they come up.
func TestTheLastWordIsTheLatestState(t *testing.T) {
	k := NewKeeper(KeeperConfig{})
	names := []string{"one", "other"}
	var trying []SA
	for _, n := range names {
		k.wanted[n] = n
		trying = append(trying, SA{Name: n, State: "CONNECTING"})
	}
	var mu sync.Mutex
	last := map[string]State{}
	come := make(chan struct{})
	var once sync.Once
	tell := func(e Event) {
		once.Do(func() {
			go func() { // awaited below
				defer close(come)
				for _, n := range names {
					k.heard(packet{name: "child-updown", body: Message{text("up", "yes"), section(n, text("state", "ESTABLISHED"),
						section("child-sas", section(n, text("state", "INSTALLED"), text("uniqueid", "1"))))}},
						func(e Event) {
							mu.Lock()
							defer mu.Unlock()
							last[e.(Changed).State.Name] = e.(Changed).State
						})
				}
			}()
			select {
			case <-come: // told too early
			case <-time.After(50 * time.Millisecond):
			}
		})
		mu.Lock()
		defer mu.Unlock()
		last[e.(Changed).State.Name] = e.(Changed).State
	}
	k.compare(trying, 0, tell)
	<-come
	for _, n := range names {
		if !last[n].Up {
			t.Errorf("%s was told last as %+v", n, last[n])
		}
	}
}
