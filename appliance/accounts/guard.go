package accounts

import (
	"sync"
	"time"

	"komainu/ntp/instant"
)

// delayMost bounds the wait after wrong passwords: the console of a broken box
// must never lock its owner out.
const delayMost = time.Minute

// strikesMost bounds each table of a Guard.
const strikesMost = 1024

// Guard makes guessing slow: it counts wrong passwords, per name and per place
// that they come from, and says how long the next answer takes. It has no clock
// and doesn't survive the process. Any goroutine may use it; the zero value is
// ready.
type Guard struct {
	mu            sync.Mutex
	names, places map[string]strikes
}

type strikes struct {
	wrong int
	until instant.Instant // no answer before
	keep  bool            // not forgotten for others
}

// Attempt is called with each password before it is looked at, and gives how
// long to wait with that. It counts as wrong until Right is called, so that
// many guesses at once gain nothing. known names have an account: no flood of
// others makes them forgotten. place "" isn't counted.
func (g *Guard) Attempt(now instant.Instant, name string, known bool, place string) time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.names == nil {
		g.names, g.places = map[string]strikes{}, map[string]strikes{}
	}
	wait := g.names[name].wait(now)
	if place != "" {
		wait = max(wait, g.places[place].wait(now))
		strike(g.places, now.Add(wait), place, false)
	}
	strike(g.names, now.Add(wait), name, known)
	return wait
}

// Right forgets what was wrong.
func (g *Guard) Right(name, place string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.names, name)
	delete(g.places, place)
}

func (s strikes) wait(now instant.Instant) time.Duration {
	return min(delayMost, max(0, s.until.Sub(now)))
}

// strike notes a wrong password: 1 s, then twice as long each time.
func strike(table map[string]strikes, now instant.Instant, key string, keep bool) {
	s, there := table[key]
	if !there && !keep && len(table) >= strikesMost {
		forget(table)
	}
	s.until = now.Add(min(delayMost, time.Second<<min(s.wrong, 6)))
	s.wrong++
	s.keep = keep
	table[key] = s
}

// forget drops the entry that is over soonest.
func forget(table map[string]strikes) {
	var oldest string
	found := false
	for k, s := range table {
		if !s.keep && (!found || s.until < table[oldest].until) {
			oldest, found = k, true
		}
	}
	delete(table, oldest)
}
