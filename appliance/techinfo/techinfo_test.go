package techinfo

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"komainu/appliance/control"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const privateKey = `-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIFxJ0bH2vJmV4WqC9yZ1Qm0n8r5oT3uXk7dLs6aPeGtB
c2hvcnQ=
-----END PRIVATE KEY-----
`

// planted are secrets in the forms in which they turn up, each with the part of
// it that must be gone.
var planted = []struct{ text, gone string }{
	{privateKey, "MC4CAQAwBQYDK2VwBCIEIFxJ0bH2vJmV4WqC9yZ1Qm0n8r5oT3uXk7dLs6aPeGtB"},
	{privateKey, "c2hvcnQ="},
	{strings.ReplaceAll(privateKey, "\n", `\n`), "c2hvcnQ="},
	{privateKey[30:], "c2hvcnQ="},                                     // its beginning was cut off
	{privateKey[:90], "MC4CAQAwBQYDK2VwBCIEIFxJ0bH2vJmV4WqC9yZ1Qm0n"}, // its end was
	{`password = "Tsuru-kame 7"`, "Tsuru-kame"},
	{`"password": "tsuru\"kame8"`, "kame8"},
	{`{\"password\":\"tsurukame9\"}`, "tsurukame9"},
	{`password=hanami10`, "hanami10"},
	{`host=10.1.4.20 user=repl password='momiji 11' dbname=x`, "momiji"},
	{`ALTER ROLE sato PASSWORD 'yukimi12'`, "yukimi12"},
	{`komainu login --token tsukimi13`, "tsukimi13"},
	{`heartbeat-key: asagao14`, "asagao14"},
	{`"psk":"himawari15"`, "himawari15"},
	{`"api_key" : 160016`, "160016"},
	{`snmp community = kikyo17`, "kikyo17"},
	{`postgres://repl:ajisai18@10.1.4.20/x`, "ajisai18"},
	{`Authorization: Bearer dGhpcyBpcyBh`, "dGhpcyBpcyBh"},
	{`$argon2id$v=19$m=65536,t=3,p=4$c2FsdHNhbHQ$aGFzaGhhc2g`, "c2FsdHNhbHQ"},
	{`SCRAM-SHA-256$4096:c2FsdA==$c3RvcmVk:c2VydmVy`, "c3RvcmVk"},
	{`md5900150983cd24fb0d6963f7d28e17f72`, "900150983cd24fb0d6963f7d28e17f72"},
	{`xT9kQ2mZ7vB4nR8sW1yC5dF6gH3jL0pA`, "xT9kQ2mZ7vB4nR8s"},
	{`wg: yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk=`, "yAnz5TF"},
	{`deadbeefcafe0123456789abcdef0123`, "deadbeef"},
	{`00:11:22:33:44:55:66:77:88:99:aa:bb:cc:dd:ee:ff`, "44:55:66"},
	{`AGE-SECRET-KEY-1QQQSYQCYQ5RQWZQF`, "QQQSYQC"},
}

// kept must stay readable.
var kept = []string{
	`password = "secret:sato"`, `key = "secret:hb"`, `"secret:db-repl"`, `ca = "pki/dc.pem"`, "10.20.7.2/29", "2001:db8:7::2/64", "52:54:00:12:34:56",
	"/var/lib/komainu/databases/resident/base", "LoaderBootCountPathOfTheSystem", "2026-11-22T16:10:00.123456789+09:00", "komainu_filter input office refused",
	"pci:0000:02:00.0", "systemd-boot 252.39-1~deb12u1", "verdict.no-answer main alt", "github.com/jsimonetti/rtnetlink/v2 v2.0.2",
}

func TestScrub(t *testing.T) {
	for _, p := range planted {
		for _, text := range []string{p.text, "Nov 22 16:10:00 box agent[12]: " + p.text + " and more\n", "before\n" + p.text + "\nafter\n"} {
			if got := string(Scrub([]byte(text))); strings.Contains(got, p.gone) || !strings.Contains(got, removed) {
				t.Errorf("%q became %q", text, got)
			}
		}
	}
	for _, k := range kept {
		if got := string(Scrub([]byte(k))); got != k {
			t.Errorf("%q became %q", k, got)
		}
	}
	text := `{"at":"2026-11-22T16:10:00+09:00","password":"a\"b","api_key":5,"args":["--token x","key=y"],"n":7}`
	if got := Scrub([]byte(text)); !json.Valid(got) || bytes.Contains(got, []byte(`a\"b`)) {
		t.Errorf("%s", got)
	}
}

// TestRandomKeys: keys of 256 bits in base64, without a word about what they are.
func TestRandomKeys(t *testing.T) {
	dice := rand.NewChaCha8([32]byte{1})
	missed := 0
	for range 20000 {
		var key [32]byte
		_, _ = dice.Read(key[:]) // never fails
		word := base64.StdEncoding.EncodeToString(key[:])
		if strings.Contains(string(Scrub([]byte("x "+word+" y"))), word) {
			missed++
		}
	}
	if missed > 20 { // one of a thousand
		t.Errorf("%d of 20000 keys stay", missed)
	}
}

func FuzzScrub(f *testing.F) {
	for _, p := range planted {
		f.Add([]byte(p.text))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		once := Scrub(b)
		if len(once) > 20*len(b)+20 {
			t.Errorf("%d bytes became %d", len(b), len(once))
		}
	})
}

// daemon answers everything with all secrets.
func daemon(t *testing.T, socket string, answers map[string]any) control.Client {
	t.Helper()
	srv := &control.Server{Socket: socket}
	for path, a := range answers {
		srv.Routes = append(srv.Routes, control.Route{Pattern: "GET " + path, Handle: func(ctx context.Context, _ *control.Request) (any, error) {
			if e, ok := a.(error); ok {
				return nil, e
			}
			return a, nil
		}})
	}
	ctx, cancel := context.WithCancel(t.Context())
	ln, err := control.Listen(ctx, socket, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return control.Client{Socket: socket}
}

// box has every source full of secrets.
func box(t *testing.T) Sources {
	t.Helper()
	state, run, proc := t.TempDir(), t.TempDir(), t.TempDir()
	var all string
	var list []string
	for _, p := range planted {
		all += p.text + "\n"
		list = append(list, p.text)
	}
	put := func(dir, name, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"journal.ndjson", "log/agent.log", "log/audit.ndjson", "log/access.ndjson", "box/last.json", "box/crash-1.txt", "groups/a_b.json", "time/journal.ndjson", "databases/x.json"} {
		put(state, name, all)
	}
	put(state, "users.json", "USERSJSON")
	put(state, "secrets/db", "kobayashi-maru")
	put(state, "time/cookie-keys.json", "COOKIEKEYS")
	for name, to := range map[string]string{"log/charon.log": "../secrets/db", "box/crash-2.txt": "../users.json"} {
		if err := os.Symlink(to, filepath.Join(state, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("secrets", filepath.Join(state, "image")); err != nil {
		t.Fatal(err)
	}
	put(state, "log/long.log", strings.Repeat("the beginning\n", 1<<17)+"the end\n")
	put(proc, "version", "Linux version 6.1.0 "+all)
	put(proc, "thread-self/net/arp", "IP address\n"+all)
	if err := os.Symlink("thread-self/net", filepath.Join(proc, "net")); err != nil {
		t.Fatal(err)
	}
	problem := &control.Error{Code: "failed", Args: list}
	return Sources{
		State: state, Proc: proc, Site: "hinata-cho", Now: time.Date(2026, 11, 22, 16, 10, 0, 0, time.FixedZone("JST", 9*3600)),
		Agent: daemon(t, filepath.Join(run, "agent.sock"), map[string]any{control.StatusPath: control.Status{Site: "hinata-cho", Verdict: control.Verdict{Args: list}}, control.NetworkPath: problem, control.AccessPath: list}),
		Time:  control.Client{Socket: filepath.Join(run, "timed.sock")}, // nobody is there
		Box: daemon(t, filepath.Join(run, "pid1.sock"), map[string]any{
			control.BoxPath: control.Box{Version: "1", Faults: []control.Reason{{Code: "x", Args: list}}}, "/v1/units": list,
			control.ConfigPath: control.ConfigText{Text: "schema = 1\n# 日向町\npassword = \"secret:sato\"\n" + all}, control.HistoryPath: list}),
		Pages: []Page{{"show status <b>", all}},
	}
}

func unpack(t *testing.T, b []byte) map[string]string {
	t.Helper()
	z, err := zip.NewReader(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, f := range z.File {
		r, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if all[f.Name] != "" {
			t.Errorf("%s: twice", f.Name)
		}
		all[f.Name] = string(text)
	}
	return all
}

func TestNoSecretLeaves(t *testing.T) {
	s := box(t)
	var out bytes.Buffer
	steps := 0
	reports, err := Write(t.Context(), &out, s, func(n, of int, _ string) {
		if steps++; n != steps || of < n {
			t.Errorf("step %d of %d", n, of)
		}
	})
	if err != nil || steps != len(reports) {
		t.Fatal(err, steps)
	}
	all := unpack(t, out.Bytes())
	for name, text := range all {
		for _, p := range planted {
			if strings.Contains(text, p.gone) {
				t.Errorf("%s has %q", name, p.gone)
			}
		}
		for _, gone := range []string{"USERSJSON", "kobayashi-maru", "COOKIEKEYS"} {
			if strings.Contains(text, gone) {
				t.Errorf("%s has %q", name, gone)
			}
		}
	}
	// What has to be there.
	for name, want := range map[string]string{
		"config.toml":               `password = "secret:sato"`,
		"status.json":               `"site": "hinata-cho"`,
		"box.json":                  `"version": "1"`,
		"units.json":                removed,
		"access.json":               removed,
		"versions.txt":              "Linux",
		"state/journal.ndjson":      removed,
		"state/log/agent.log":       removed,
		"state/groups/a_b.json":     removed,
		"kernel/proc/net/arp.txt":   "IP address",
		"kernel/proc/version.txt":   "Linux version 6.1.0",
		"state/log/long.log":        "the end\n",
		"index.txt":                 "hinata-cho",
		"index.html":                "show status &lt;b&gt;",
		"state/log/audit.ndjson":    removed,
		"state/time/journal.ndjson": removed,
	} {
		if !strings.Contains(all[name], want) {
			t.Errorf("%s has no %q:\n%.300s", name, want, all[name])
		}
	}
	if n := len(all["state/log/long.log"]); n > partMost || !strings.HasPrefix(all["state/log/long.log"], "the beginning\n") {
		t.Errorf("%d bytes of the long log, from %.20q on", n, all["state/log/long.log"])
	}
	for _, failed := range []string{"time.json", "network.json", "state/log/charon.log", "state/box/crash-2.txt", "state/image/state.json", "kernel/proc/uptime.txt"} {
		if _, there := all[failed]; there {
			t.Errorf("%s is there", failed)
		}
		if !strings.Contains(all["index.txt"], failed) {
			t.Errorf("%s isn't in the index", failed)
		}
	}
	for _, r := range reports {
		if (r.Error == "") != (all[r.Name] != "" || r.Bytes == 0 && r.Error == "") || r.Name == "state/log/long.log" && !r.Cut {
			t.Errorf("%+v", r)
		}
	}
	if strings.Contains(all["index.html"], "<script") || strings.Count(all["index.txt"], "config.toml") != 2 {
		t.Error("the index isn't as it should be")
	}
}

// TestBounds: whatever a source does, the archive ends.
func TestBounds(t *testing.T) {
	s := Sources{State: t.TempDir(), Proc: t.TempDir(), Now: time.Now()}
	if err := os.MkdirAll(filepath.Join(s.State, "log"), 0o755); err != nil {
		t.Fatal(err)
	}
	for i := range 40 {
		if err := os.WriteFile(filepath.Join(s.State, "log", fmt.Sprint(i, ".log")), bytes.Repeat([]byte("a line of text\n"), 1<<17), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var out bytes.Buffer
	reports, err := Write(t.Context(), &out, s, nil)
	if err != nil {
		t.Fatal(err)
	}
	total, left := 0, 0
	for _, r := range reports {
		total += r.Bytes
		if strings.Contains(r.Error, errAllMost.Error()) {
			left++
		}
	}
	if total > allMost+partMost || left == 0 {
		t.Errorf("%d bytes, %d left out", total, left)
	}

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Write(ctx, &out, s, nil); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if _, err := Write(t.Context(), full{}, box(t), nil); !errors.Is(err, io.ErrShortWrite) {
		t.Error(err)
	}
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, io.ErrShortWrite }
