package town

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"komainu/appliance/control"
)

// noPostgres: the town-hall box boots and finds no PostgreSQL, a data directory
// of another version, and one of another tenant. The agent says so, touches
// nothing, and goes on when it is put right.
func noPostgres(t *testing.T, ctx context.Context, w *World) {
	base := filepath.Join(w.Hall.StateDir(), "databases", Group)
	for _, x := range []struct {
		reason, file string
		spoil        func([]byte) []byte
	}{
		{"postgres-missing", config(w.Hall), func(b []byte) []byte {
			return bytes.Replace(b, []byte("[[database]]\n"), []byte("[[database]]\nbin = \"/nonexistent/bin\"\n"), 1)
		}},
		{"postgres-wrong-version", filepath.Join(base, "data", "PG_VERSION"), func([]byte) []byte { return []byte("14\n") }},
		{"postgres-foreign-tenant", filepath.Join(base, "data", "komainu.tenant"), func([]byte) []byte { return []byte("another-town\n") }},
	} {
		must(t, w.Hall.PowerOff(ctx))
		good, err := os.ReadFile(x.file)
		must(t, err)
		must(t, os.WriteFile(x.file, x.spoil(good), 0o600))
		was := pgControl(t, base)
		must(t, w.Hall.PowerOn(ctx))
		st := hall(t, ctx, w, func(st control.Status) error {
			d := st.Databases[0]
			if d.Role != "unusable" || d.Reason != x.reason || d.Ready {
				return fmt.Errorf("want %s: %+v", x.reason, d)
			}
			// By now it would have copied, if it were going to.
			if st.UptimeS < 4 || !st.Verdict.Usable {
				return fmt.Errorf("up for %v s, verdict %s", st.UptimeS, st.Verdict.Reason)
			}
			return inMode("dc")(st)
		})
		for _, lang := range []string{"en", "ja"} {
			for _, what := range []string{"status", "database"} {
				text := w.console(t, ctx, false, "show", what, "--lang", lang, "--run", w.Hall.RunDir())
				if strings.Contains(text, x.reason) {
					t.Errorf("show %s --lang %s shows a code: %s", what, lang, text)
				}
				if lang == "en" {
					t.Logf("%s\n%s", x.reason, text)
				}
			}
		}
		if !slices.ContainsFunc(st.Alarms, func(a control.Alarm) bool { return a.ID == "standby-not-ready" }) {
			t.Errorf("%s: no alarm: %v", x.reason, st.Alarms)
		}
		works(t, ctx, w, AtDC)
		if !bytes.Equal(was, pgControl(t, base)) {
			t.Errorf("%s: the data directory was touched", x.reason)
		}
		must(t, w.Hall.PowerOff(ctx))
		must(t, os.WriteFile(x.file, good, 0o600))
		must(t, w.Hall.PowerOn(ctx))
		atDC(t, ctx, w)
	}
}

func pgControl(t *testing.T, base string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(base, "data", "global", "pg_control"))
	must(t, err)
	return b
}
