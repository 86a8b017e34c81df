package postgres

import (
	"testing"

	"komainu/failover/standby"
)

func TestRecordEnd(t *testing.T) {
	const segment = 16 << 20
	for _, c := range []struct{ start, want standby.LSN }{
		{0x3000028, 0x3000028 + 120},
		{0x3002000 - 120, 0x3002000},              // fills its page
		{0x3002000 - 112, 0x3002000 + 24 + 8},     // two bytes go on after a page header
		{0x3002000 - 24, 0x3002000 + 24 + 96},     // only the record header fits
		{0x4000000 - 56, 0x4000000 + 40 + 64},     // over the end of a segment
		{0x100000000 - 56, 0x100000000 + 40 + 64}, // and of a log file
	} {
		if got := recordEnd(c.start, segment); got != c.want {
			t.Errorf("record at %v ends at %v, want %v", c.start, got, c.want)
		}
	}
}

// Texts of pg_waldump 15; the rule is that of ProcArrayApplyRecoveryInfo.
func TestRestartScan(t *testing.T) {
	const at = "rmgr: Standby len (rec/tot): 54/ 54, tx: 0, lsn: 0/0400C218, prev 0/0400C1D8, desc: "
	overflowed := at + "RUNNING_XACTS nextXid 834 latestCompletedXid 732 oldestRunningXid 733; 1 xacts: 733; subxid ovf"
	for name, c := range map[string]struct {
		lines []string
		ok    bool
	}{
		"nothing":             {nil, false},
		"none running":        {[]string{at + "RUNNING_XACTS nextXid 834 latestCompletedXid 833 oldestRunningXid 834"}, true},
		"one running":         {[]string{at + "RUNNING_XACTS nextXid 834 latestCompletedXid 832 oldestRunningXid 833; 1 xacts: 833"}, true},
		"overflowed":          {[]string{overflowed, overflowed}, false},
		"the old one ended":   {[]string{overflowed, at + "RUNNING_XACTS nextXid 999 latestCompletedXid 840 oldestRunningXid 841; 1 xacts: 841; subxid ovf"}, true},
		"shutdown checkpoint": {[]string{overflowed, "rmgr: XLOG len (rec/tot): 114/ 114, tx: 0, lsn: 0/04000028, prev 0/0, desc: CHECKPOINT_SHUTDOWN redo 0/4000028; tli 1"}, true},
	} {
		var s restartScan
		for _, l := range c.lines {
			s.line(l)
		}
		if s.ok != c.ok {
			t.Errorf("%s: ready %v, want %v", name, s.ok, c.ok)
		}
	}
}

func TestProgress(t *testing.T) {
	var got []int
	w := progressWriter{report: func(p int, _ string) { got = append(got, p) }}
	for _, part := range []string{"  10/100 kB (1", "0%), 0/1 tablespace\r100/100 kB (100%), 1/1 tablespace\n", "noise\n"} {
		if n, err := w.Write([]byte(part)); n != len(part) || err != nil {
			t.Fatal(n, err)
		}
	}
	if len(got) != 2 || got[0] != 10 || got[1] != 100 {
		t.Errorf("progress %v", got)
	}
}
