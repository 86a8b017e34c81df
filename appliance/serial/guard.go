package serial

import (
	"time"

	"komainu/ntp/instant"
)

// delayMost bounds the wait after wrong passwords: the console of a broken box
// must never lock its owner out.
const delayMost = time.Minute

// guard counts wrong passwords, per account; all names without an account count
// as one. It has no clock and doesn't survive the process.
type guard map[string]strikes

type strikes struct {
	wrong int
	until instant.Instant // no answer before
}

// wait is how long the next password for name is left unanswered.
func (g guard) wait(now instant.Instant, name string) time.Duration {
	return max(0, g[name].until.Sub(now))
}

// wrong notes a wrong password: 1 s, then twice as long each time.
func (g guard) wrong(now instant.Instant, name string) {
	s := g[name]
	s.until = now.Add(min(delayMost, time.Second<<min(s.wrong, 6)))
	s.wrong++
	g[name] = s
}

// right forgets what was wrong.
func (g guard) right(name string) { delete(g, name) }
