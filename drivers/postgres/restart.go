package postgres

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"komainu/failover/standby"
)

// A hot standby opens for reads only after it has seen which transactions run
// on the primary. It begins at its last restartpoint's redo position; if every
// list of running transactions from there on had overflowed its cache of
// subtransactions (more than 64 in one transaction), it stays closed until the
// primary sends a better one, and for ever if the primary is gone.
// restartScan replays that decision over the WAL on disk
// (ProcArrayApplyRecoveryInfo in procarray.c).
type restartScan struct {
	redo     standby.LSN // restartpoint that the rest belongs to
	next     standby.LSN // where reading goes on
	timeline uint32
	flush    standby.LSN // end of WAL at the last scan
	pending  uint32      // next transaction id of the first overflowed list; 0: none
	ok       bool
	err      error
	at       time.Time
}

// restartCache keeps the scan of the latest restartpoint between looks.
type restartCache struct {
	mu sync.Mutex
	restartScan
}

// rescan bounds how often an unready standby is scanned again by a look.
const rescan = time.Second

// ready is the cached answer, renewed when the restartpoint moved or the
// answer was no and new WAL came.
func (s *restartCache) ready(ctx context.Context, c *Cluster, tli uint32, redo, flush standby.LSN) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if redo != s.redo {
		s.restartScan = restartScan{redo: redo, next: redo, timeline: tli}
	}
	if s.ok || flush == s.flush || time.Since(s.at) < rescan {
		return s.ok
	}
	s.at = time.Now()
	s.run(ctx, c)
	if s.err == nil {
		s.flush = flush
	}
	return s.ok
}

// RestartReady tells whether the standby would open for reads after a restart
// without its primary; if not, the reason is ReasonInconsistent. It reads the
// WAL now, whether or not the server runs. A primary is always ready.
func (c *Cluster) RestartReady(ctx context.Context) (bool, string, error) {
	if !c.exists(signalFile) {
		return true, "", nil
	}
	ctl, err := c.control(c.Data())
	if err != nil {
		return false, ReasonDamaged, err
	}
	s := restartScan{redo: ctl.redo, next: ctl.redo, timeline: ctl.timeline}
	if s.run(ctx, c); s.err != nil {
		return false, ReasonDamaged, s.err
	}
	if !s.ok {
		return false, ReasonInconsistent, nil
	}
	return true, "", nil
}

// run scans from s.next; when its timeline ends, on the timelines that follow.
func (s *restartScan) run(ctx context.Context, c *Cluster) {
	ctl, err := c.control(c.Data())
	if s.err = err; err != nil {
		return
	}
	for {
		if s.err = s.scanTimeline(ctx, c, ctl.segment); s.err != nil || s.ok {
			return
		}
		lines, err := c.history(c.Data(), s.timeline+1)
		if err != nil || len(lines) == 0 { // no later timeline here
			return
		}
		s.timeline++
		// The first segment of a timeline begins with a copy of its parent's.
		s.next = max(s.redo, lines[len(lines)-1].lsn/ctl.segment*ctl.segment)
	}
}

// walEnd is where the segment files of a timeline end that follow each other
// from the one that holds `from`; `from` itself when that one is missing.
func walEnd(dir string, tli uint32, from, segment standby.LSN) standby.LSN {
	perLog := (1 << 32) / segment
	for n := from / segment; ; n++ {
		name := fmt.Sprintf("%08X%08X%08X", tli, uint64(n/perLog), uint64(n%perLog))
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			return max(from, n*segment)
		}
	}
}

var (
	recordLine = regexp.MustCompile(`lsn: ([0-9A-F]+/[0-9A-F]+),`)
	xactsLine  = regexp.MustCompile(`RUNNING_XACTS nextXid (\d+) latestCompletedXid \d+ oldestRunningXid (\d+)(.*)`)
)

func (s *restartScan) scanTimeline(ctx context.Context, c *Cluster, segment standby.LSN) error {
	dir := filepath.Join(c.Data(), "pg_wal")
	end := walEnd(dir, s.timeline, s.next, segment)
	if end == s.next { // a standby that has received nothing there yet
		return nil
	}
	cmd := exec.CommandContext(ctx, filepath.Join(c.cfg.Bin, "pg_waldump"), "-p", dir,
		"-t", strconv.FormatUint(uint64(s.timeline), 10), "-s", s.next.String(),
		"-e", end.String(), // without an end it waits 5 s for the next segment
		"-r", "Standby", "-r", "XLOG")
	cmd.Env = []string{"LC_ALL=C"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("read the WAL of database %s: %w", c.cfg.Name, err)
	}
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20) // a list of running transactions is one line
	for !s.ok && lines.Scan() {
		s.line(lines.Text())
	}
	if s.ok || lines.Err() != nil {
		_ = cmd.Process.Kill() // proved: the rest is of no interest
		_ = cmd.Wait()
		return lines.Err()
	}
	_ = cmd.Wait() // it exits 1 at the end of the valid WAL, which is where we want to get
	return ctx.Err()
}

func (s *restartScan) line(text string) {
	if m := recordLine.FindStringSubmatch(text); m != nil {
		if lsn, err := standby.ParseLSN(m[1]); err == nil {
			s.next = lsn
		}
	}
	if strings.Contains(text, "CHECKPOINT_SHUTDOWN") {
		s.ok = true // nothing ran
		return
	}
	m := xactsLine.FindStringSubmatch(text)
	if m == nil {
		return
	}
	next, err1 := strconv.ParseUint(m[1], 10, 32)
	oldest, err2 := strconv.ParseUint(m[2], 10, 32)
	if err1 != nil || err2 != nil {
		return
	}
	switch {
	case !strings.Contains(m[3], "subxid ov"): // "subxid ovf", in newer versions "subxid overflowed"
		s.ok = true
	case s.pending == 0:
		s.pending = uint32(next)
	case int32(uint32(oldest)-s.pending) >= 0: // transaction ids wrap
		s.ok = true
	}
}
