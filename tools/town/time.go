package town

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"komainu/tools/lab"
)

// Time of a town (Settings.Time): chronyd on the data centre's application
// host stands for the trusted source, the edge follows it, the town-hall box
// follows the edge, both with a key. Each box serves every network that it is
// attached to. No clock is adjusted: all hosts of a lab share the machine's.
const (
	edgeTime = `[ntp]
upstream = [{ address = "{{.App4}}", key = 1 }, { address = "{{.App6}}", key = 1 }]
serve = ["dclan", "main", "alt", "{{.Office4}}", "{{.Office6}}"]
keys = "secret:time-keys"
`
	hallTime = `[ntp]
upstream = [{ address = "{{.Edge4}}", key = 1 }, { address = "{{.Edge6}}", key = 1 }]
serve = ["office", "main", "alt"]
keys = "secret:time-keys"
`
)

// timeKeys is the file of symmetric keys, in chrony's form and ours.
func timeKeys() string { return "1 AES128 HEX:" + string(secret()[:32]) + "\n" }

// startTime starts the trusted source on the application host.
func (w *World) startTime(ctx context.Context, keys string) error {
	dir := filepath.Join(w.App.Dir, "time")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	file := filepath.Join(dir, "keys")
	if err := os.WriteFile(file, []byte(keys), 0o600); err != nil {
		return err
	}
	conf := filepath.Join(dir, "chrony.conf")
	text := fmt.Sprintf("local stratum 1\nallow\nkeyfile %s\ncmdport 0\nbindcmdaddress %s/chronyd.sock\npidfile %s/chronyd.pid\nuser root\n", file, dir, dir)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		return err
	}
	return w.App.Start(ctx, lab.Daemon{Name: "chronyd", Argv: []string{"/usr/sbin/chronyd", "-x", "-d", "-f", conf}})
}
