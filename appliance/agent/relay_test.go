package agent

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"komainu/failover/detect"
)

// A box that speaks for many groups says it in several datagrams, each of
// which fits and none of which is left out.
func TestManyGroupsFitIntoDatagrams(t *testing.T) {
	all := &detect.Message{}
	name := strings.Repeat("n", 27)
	for i := range 100 {
		group := fmt.Sprintf("%s/%.22s-%04d", name, name, i)
		all.Groups = append(all.Groups, detect.GroupState{Group: group, Term: 1 << 40, Age: time.Minute})
		all.Databases = append(all.Databases, detect.DatabaseState{Group: group, Database: name, Host: name, Fault: name, Term: 1 << 40,
			System: 1 << 63, Flush: 1 << 62, Replay: 1 << 62, FlushAt: 1 << 62, Orphans: 1 << 30, Age: time.Minute, FencedIn: time.Minute})
	}
	groups, databases := 0, 0
	for len(all.Groups)+len(all.Databases) > 0 {
		m := &detect.Message{From: name, State: detect.Up, Boot: 1, Seq: 1 << 62, Interval: time.Second, Mult: 5}
		fill(m, all)
		b, err := detect.Append(nil, m, make([]byte, 32))
		if err != nil || len(b) > detect.MaxMessage {
			t.Fatalf("%d groups and %d databases in %d bytes: %v", len(m.Groups), len(m.Databases), len(b), err)
		}
		groups, databases = groups+len(m.Groups), databases+len(m.Databases)
	}
	if groups != 100 || databases != 100 {
		t.Errorf("%d groups and %d databases arrived, want 100 each", groups, databases)
	}
}

// A town hall speaks of its own groups only, and is told of its own only.
func TestNobodySpeaksOfAnothersGroups(t *testing.T) {
	a := New(Spec{Site: "dc-edge", Role: DCEdge, Peers: []Peer{{Name: "hinata-cho", Role: TownHall}, {Name: "dc-db", Role: DCDB}},
		Paths: []Path{{Name: "main", Peer: "hinata-cho", Interval: 100 * time.Millisecond, Mult: 5}}})
	a.Step(1, Started{Boot: 7})
	s := detect.NewSession(detect.SessionConfig{Path: "main", Peer: "dc-edge", Interval: 100 * time.Millisecond, Mult: 5, Boot: 9}, 1)
	now := a.now
	for range 20 { // both sessions come up, then the town hall tells
		now = now.Add(50 * time.Millisecond)
		m := &detect.Message{From: "hinata-cho", Groups: []detect.GroupState{
			{Group: "hinata-cho/resident", Term: 3, Owner: detect.Hall}, {Group: "tsukimi-mura/resident", Term: 9, Owner: detect.Hall}}}
		s.Stamp(now, 0, m)
		for _, act := range a.Step(now, Beat{Path: "main", Message: m}) {
			if b, ok := act.Do.(SendBeat); ok {
				_, _ = s.Receive(now, b.Message) // the first ones prove nothing yet
			}
		}
	}
	if got := a.HeardTerm("hinata-cho/resident"); got != 3 {
		t.Errorf("of its own group the edge heard term %d, want 3", got)
	}
	if got := a.HeardTerm("tsukimi-mura/resident"); got != 0 {
		t.Errorf("of another's group the edge believed term %d", got)
	}
}
