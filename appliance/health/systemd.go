package health

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"komainu/appliance/control"
)

// statusEvery is how often the status line for systemctl is renewed when no
// watchdog asks for more.
const statusEvery = 10 * time.Second

// Notify tells systemd READY=1 with the first status that the agent gives, then
// STATUS= whenever its line changes, and feeds the watchdog for as long as the
// agent's loop answers (sd_notify(3)). When ctx ends it tells STOPPING=1. It
// returns at once where no systemd asked for notifications.
func Notify(ctx context.Context, snapshot Snapshot) error {
	limit, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		return fmt.Errorf("systemd watchdog: %w", err)
	}
	every := statusEvery
	if limit > 0 {
		every = min(every, limit/3)
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for said := ""; ; {
		state := ""
		if st, err := snapshot.take(ctx); err == nil {
			state, said = next(said, line(st), limit > 0)
		}
		if state != "" {
			heard, err := daemon.SdNotify(false, state)
			if err != nil {
				return fmt.Errorf("notify systemd: %w", err)
			}
			if !heard {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			_, err := daemon.SdNotify(false, daemon.SdNotifyStopping)
			return err
		case <-tick.C:
		}
	}
}

// next is what to send after said was the last status line, and the new one.
func next(said, now string, watched bool) (state, line string) {
	var s []string
	if said == "" {
		s = append(s, daemon.SdNotifyReady)
	}
	if now != said {
		s = append(s, "STATUS="+now)
	}
	if watched {
		s = append(s, daemon.SdNotifyWatchdog)
	}
	return strings.Join(s, "\n"), now
}

// line is the status in one line, for `systemctl status`.
func line(st control.Status) string {
	var s []string
	for _, g := range st.Groups {
		s = append(s, fmt.Sprintf("%s %s term %d", g.Name, g.Mode, g.Term))
	}
	for _, d := range st.Databases {
		s = append(s, d.Name+" "+d.Role)
	}
	s = append(s, fmt.Sprintf("%d alarms", len(st.Alarms)))
	return strings.Join(append(s, faults(st, nil)...), "; ")
}
