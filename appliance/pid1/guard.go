package pid1

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"komainu/appliance/control"
	"komainu/appliance/pid1/vigil"
	"komainu/drivers/units"
	"komainu/ntp/instant"
)

// Dog is the watchdog that Guard feeds: a *watchdog.Device.
type Dog interface {
	Feed() error
	Stop() error // disarms it
}

// Guard looks at the supervisor and the agent, asks the vigil and does what it
// says: the only place where the watchdog is fed.
type Guard struct {
	Run, State string // folders of the sockets and of box/
	Dog        Dog    // nil: the machine has none; everything else is done all the same
	Log        *slog.Logger
	// Abort ends the supervisor with its stack.
	Abort func() error
	Every time.Duration // 0: vigil.Every; shorter in tests
}

// answerIn is how long an answer may take, so that feeding stays well inside
// the hardware's time even when both are silent.
const answerIn = 4 * time.Second

// Watch looks and acts until ctx ends. It disarms nothing at its end. A disk that
// hangs while a reason is recorded holds it up: then nothing feeds either.
func (g Guard) Watch(ctx context.Context) {
	if g.Every == 0 {
		g.Every = vigil.Every
	}
	v := vigil.New(boottime(), resetAges(g.State, time.Now()))
	tick := time.NewTicker(g.Every)
	defer tick.Stop()
	for {
		s := g.look(ctx)
		if ctx.Err() != nil {
			return
		}
		for _, a := range v.Step(boottime(), s) {
			g.do(ctx, a)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// look asks both at once.
func (g Guard) look(ctx context.Context) vigil.Sample {
	ctx, done := context.WithTimeout(ctx, min(answerIn, g.Every))
	defer done()
	var s vigil.Sample
	var agent vigil.Agent
	var asked sync.WaitGroup
	asked.Go(func() {
		var st control.Status
		err := control.Client{Socket: filepath.Join(g.Run, "agent.sock")}.Get(ctx, control.StatusPath, &st)
		var refused *control.Error
		// A refusal is an answer too.
		agent.Answers = err == nil || errors.As(err, &refused) && refused.Code != "agent-unreachable" && refused.Code != "bad-answer"
		agent.Path = err == nil && st.Verdict.Place == "own-box"
	})
	st, err := g.supervisor().Status(ctx, agentUnit)
	asked.Wait()
	switch {
	case err == nil:
		agent.Wanted, agent.Running, agent.Refused = st.Wanted, st.Running, st.Exit == "exit 1"
	case !errors.Is(err, units.ErrUnknown):
		return s
	}
	s.Supervisor, s.Agent = true, agent
	return s
}

// agentUnit is the unit that the vigil watches.
const agentUnit = "agent"

func (g Guard) supervisor() units.Client {
	return units.Client{Socket: filepath.Join(g.Run, "pid1.sock")}
}

func (g Guard) do(ctx context.Context, a vigil.Action) {
	ctx, done := context.WithTimeout(ctx, answerIn)
	defer done()
	var err error
	switch a.Do {
	case vigil.Feed:
		if g.Dog != nil {
			err = g.Dog.Feed()
		}
	case vigil.AbortAgent:
		// A stopped process takes SIGABRT only when it goes on.
		err = errors.Join(g.supervisor().Signal(ctx, agentUnit, syscall.SIGABRT), g.supervisor().Signal(ctx, agentUnit, syscall.SIGCONT))
	case vigil.AbortSupervisor:
		err = g.Abort()
	case vigil.Record:
		err = recordReset(g.State, a.Code, time.Now())
	case vigil.Release:
		if g.Dog != nil {
			err = g.Dog.Stop()
		}
	case vigil.Tell:
	}
	if a.Code != "" {
		g.Log.Warn("vigil", "do", string(a.Do), "code", a.Code)
	}
	if err != nil {
		g.Log.Error("vigil", "do", string(a.Do), "error", err)
	}
}

func boottime() instant.Instant {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts) // fails for a bad pointer only
	return instant.Instant(ts.Nano())
}
