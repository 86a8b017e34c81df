package serial

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"komainu/appliance/accounts"
	"komainu/appliance/console"
	"komainu/appliance/control"
	"komainu/drivers/files"
)

// audited is what stands in the records: "user operation result".
func audited(t *testing.T, state string) []string {
	t.Helper()
	all, err := accounts.Log{State: state}.Last(1000)
	if err != nil {
		t.Fatal(err)
	}
	var s []string
	for _, e := range all {
		s = append(s, e.User+" "+e.Operation+" "+e.Result)
	}
	return s
}

// TestFirstLogin is the transcript of a box fresh from the factory, in both
// languages since nobody has chosen one, then in the chosen one.
func TestFirstLogin(t *testing.T) {
	p := sit(t, func(o *Options) {
		box(t, o.Run, control.Box{
			Version: "2026.11.22.1849", Model: "Supermicro X12", Serial: "S1", Last: control.Reset{Kind: "first"},
		})
	})
	p.expect("login: ")
	p.talk("root\r", "login: ", "admin\r", "new password: ", "short\r", "login: ",
		"admin\r", "new password: ", secret+"\r", "again: ", "other one\r", "login: ",
		"admin\r", "new password: ", secret+"\r", "again: ", secret+"\r", "komainu> ",
		"console lang en\r", "komainu> ", "sh per\r", "komainu> ", "sho per\r", "komainu> ", "exit\r", "login: ")
	golden(t, "first-login", p.screen())
	p.talk("admin\r", "password: ", secret+"\r", "komainu> ", "\x04", "login: ")
	got := audited(t, p.o.State)
	if want := []string{"admin password ok", "admin console language ok", "admin  unknown", "admin show person ok", "admin exit ok", "admin logout ok", "admin login ok", "admin logout ok"}; !cmp.Equal(got, want) {
		t.Errorf("records: %q", got)
	}
	var s settings
	if err := files.ReadJSON(filepath.Join(p.o.State, "serial", strings.ReplaceAll(strings.TrimPrefix(p.o.TTY, "/dev/"), "/", "-")+".json"), settingsVersion, &s); err != nil || s != (settings{115200, "en"}) {
		t.Errorf("kept %v, %v", s, err)
	}
	if st, err := os.Stat(filepath.Join(p.o.State, "users.json")); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", st, err)
	}
}

// TestTroubleFirst is the banner of a box with everything wrong.
func TestTroubleFirst(t *testing.T) {
	p := sit(t, func(o *Options) {
		withAdmin(o)
		o.Config = "../config/testdata/hinata-cho.toml"
		box(t, o.Run, control.Box{
			Version: "2026.11.22.1849", Model: "QEMU", Rescue: true, Last: control.Reset{Kind: "watchdog", Reason: control.Reason{Code: "agent-unreachable", Args: []string{"timeout"}}},
			Trial:  &control.Trial{LeftS: 250, Waiting: []control.Reason{{Code: "no-carrier"}}},
			Faults: []control.Reason{{Code: "unit-not-stopped", Args: []string{"12"}}},
		})
	})
	p.expect("login: ")
	golden(t, "trouble", p.screen())
	p.talk("admin\r", "password: ", secret+"\r", "hinata-cho> ")
}

// golden compares with testdata/NAME.txt.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name+".txt")
	if os.Getenv("GOLDEN") != "" {
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), got); d != "" {
		t.Errorf("%s (GOLDEN=1 writes it anew):\n%s", path, d)
	}
}

func TestWrongPasswords(t *testing.T) {
	p := sit(t, withAdmin)
	p.expect("login: ")
	for range 3 {
		p.talk("admin\r", "password: ", "guess\r", "login: ")
	}
	p.talk("nobody\r", "password: ", "guess\r", "login: ", "PASSWORD!\r", "password: ", "\r", "login: ")
	p.enterAgain()
	p.talk("exit\r", "login: ", "admin\r", "password: ", secret+"\r", "komainu> ") // forgiven
	if want := []time.Duration{time.Second, 2 * time.Second, time.Second, 3 * time.Second}; !cmp.Equal(p.waits, want) {
		t.Errorf("waited %v, want %v", p.waits, want)
	}
	want := []string{"admin login wrong", "admin login wrong", "admin login wrong", "nobody login wrong", "? login wrong", "admin login ok", "admin exit ok", "admin logout ok", "admin login ok"}
	if got := audited(t, p.o.State); !cmp.Equal(got, want) {
		t.Errorf("records: %q", got)
	}
}

func (p *person) enterAgain() {
	p.t.Helper()
	p.talk("admin\r", "password: ", secret+"\r", "komainu> ")
}

func TestSession(t *testing.T) {
	p := sit(t, withAdmin)
	p.enter()
	p.talk("console language en\r", "komainu> ",
		"sho\tper\t\r", "you are admin",
		"show ?", "pages", "\x03", "komainu> ",
		"show 'person\r", "a quote isn't closed",
		"nonsense\r", "is no command",
		"komainu show person\r", "you are admin", // as advice shows it
		"wait\r", "running", "\x03", "komainu> ",
		"show person --run /tmp\r", "--run is no option",
	)
	// Typed while a command runs: kept for afterwards.
	p.talk("wait\r", "running", "\x03show person\r", "you are admin", "", "komainu> ")
	p.talk("exit\r", "logged out", "", "login: ")
}

func TestPages(t *testing.T) {
	p := sit(t, withAdmin)
	p.enter()
	p.talk("show pages\r", "line 22\n--More--", " ", "line 45\n--More--", "\r\n", "line 46\n--More--", "q", "komainu> ")
	if strings.Contains(p.screen(), "line 47") {
		t.Error("went on after q")
	}
	p.talk("show pages\r", "--More--", "\x03", "komainu> ", "show person\r", "you are admin")
}

func TestRoles(t *testing.T) {
	p := sit(t, withAdmin)
	p.expect("login: ")
	p.talk("ito\r", "password: ", secret+"\r", "komainu> ", "console language en\r", "komainu> ",
		"shell\r", "user ito may not do this; role admin is needed", "administrator\r", "may not do this",
		"config check /etc/shadow\r", "may not do this", "show person\r", "you are ito", "", "komainu> ")
	want := []string{"ito login ok", "ito console language ok", "ito shell refused", "ito administrator refused", "ito config check refused", "ito show person ok"}
	if got := audited(t, p.o.State); !cmp.Equal(got, want) {
		t.Errorf("records: %q", got)
	}
}

func TestAdministrator(t *testing.T) {
	p := sit(t, withAdmin)
	p.enter()
	p.talk("administrator\r", "new password: ", "another one\r", "again: ", "another one\r", "komainu> ", "exit\r", "login: ",
		"admin\r", "password: ", secret+"\r", "login: ", "admin\r", "password: ", "another one\r", "komainu> ", "exit\r", "login: ",
		"ito\r", "password: ", secret+"\r", "komainu> ") // the others are still there
}

func TestShell(t *testing.T) {
	p := sit(t, func(o *Options) { withAdmin(o) })
	p.enter()
	p.talk("shell\r", "# ", "sh -c 'echo g$((1))o; exec sleep 1000'\n", "g1o", "\x03", "# ", "echo a$((40+2)); tty; false\n", "a42\n/dev/pts/", "exit 3\n", "komainu> ",
		"show person\r", "you are admin")
}

func TestInput(t *testing.T) {
	p := sit(t, withAdmin)
	p.expect("login: ")
	// Noise, then a line that ends in CR LF; then one in LF alone.
	p.talk("\x00\xff\xfe\x80\xe3\x81\x1b[999999999999999999\x1b[12;\x07\x03", "login: ", "admin\r\n", "password: ", secret+"\n", "komainu> ")
	p.talk("console language en\r\n", "komainu> ", "\x1b[1;1;1;1;1;1;1;1;1\x03", "komainu> ", "show pers\x1bOD\x1b[Con\r\n", "you are admin")
	// The kernel keeps 4 KiB of a line that nobody reads: send it in pieces.
	for range 100 {
		p.talk(strings.Repeat("x", 100))
	}
	p.talk("\r", "longer than 1024 characters", "show person\r", "you are admin")
	p.talk("\x04", "logged out")
}

func TestUsersDamaged(t *testing.T) {
	p := sit(t, func(o *Options) {
		if err := os.WriteFile(filepath.Join(o.State, "users.json"), []byte("{"), 0o600); err != nil {
			t.Fatal(err)
		}
	})
	p.expect("NOBODY CAN LOG IN")
	p.expect("login: ")
	p.talk("admin\r", "password: ", "\r", "wrong", "", "login: ", "reset-admin\r", "password: ", "\r", "wrong")
}

func TestRescueResets(t *testing.T) {
	p := sit(t, func(o *Options) { withAdmin(o); box(t, o.Run, control.Box{Rescue: true}) })
	p.expect("login: ")
	p.talk("reset-admin\r", "new password: ", "a newer one\r", "again: ", "a newer one\r", "komainu> ", "exit\r", "login: ",
		"admin\r", "password: ", "a newer one\r", "komainu> ", "exit\r", "login: ", "ito\r", "password: ", secret+"\r", "komainu> ")
	if got := audited(t, p.o.State)[0]; got != "admin password reset" {
		t.Errorf("records: %q", got)
	}
}

func TestNoDisk(t *testing.T) {
	p := sit(t, func(o *Options) { o.State = "/proc/none" })
	p.expect("login: ")
	p.talk("admin\r", "new password: ", secret+"\r", "again: ", secret+"\r", "the disk takes no file", "", "komainu> ", "exit\r", "login: ",
		"admin\r", "password: ", "wrong one\r", "login: ", "admin\r", "password: ", secret+"\r", "komainu> ")
}

func TestTerminalStops(t *testing.T) {
	p := sit(t, withAdmin)
	p.enter()
	p.hold.Lock()
	p.send("flood\r")
	for len(audited(t, p.o.State)) < 3 { // the command, a log out
		select {
		case <-p.fresh:
		case <-time.After(20 * time.Millisecond):
		}
		if t.Context().Err() != nil {
			t.Fatal("still logged in")
		}
	}
	p.hold.Unlock()
	p.expect("login: ")
	p.enterAgain()
}

func TestIdle(t *testing.T) {
	p := sit(t, func(o *Options) { withAdmin(o); o.Idle = time.Second })
	p.enter()
	p.expect("ログアウト")
	p.expect("login: ")
	if got := audited(t, p.o.State); got[len(got)-1] != "admin logout idle" {
		t.Errorf("records: %q", got)
	}
}

func TestAlarms(t *testing.T) {
	c := newSeat(Options{TTY: "ttyS0"})
	line := control.Alarm{ID: "path-down", Subject: "main", Severity: "warning"}
	for _, s := range []struct {
		now  []control.Alarm
		want []string
	}{
		{nil, nil},
		{[]control.Alarm{line}, []string{"! main: alarm (warning): "}},
		{[]control.Alarm{line}, nil},
		{nil, []string{"! main: alarm over: "}},
	} {
		got := c.changes("en", s.now)
		if len(got) != len(s.want) || len(got) > 0 && !strings.HasPrefix(got[0], s.want[0]) {
			t.Errorf("got %q, want %q", got, s.want)
		}
	}
}

// TestAgentHangs: its socket takes connections and never answers.
func TestAgentHangs(t *testing.T) {
	p := sit(t, func(o *Options) {
		withAdmin(o)
		ln, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", filepath.Join(o.Run, "agent.sock"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := ln.Close(); err != nil {
				t.Error(err)
			}
		})
		o.Commands = append(o.Commands, console.Show()...)
	})
	p.enter()
	p.talk("console language en\r", "komainu> ", "show status\r\x03", "^C\nkomainu> ", "show person\r", "you are admin")
}

// TestDiskFails: what was read once is enough to log in.
func TestDiskFails(t *testing.T) {
	p := sit(t, withAdmin)
	p.enter()
	p.talk("exit\r", "login: ")
	if err := os.RemoveAll(p.o.State); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(p.o.State, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	p.enterAgain()
}

// TestSpeed: keys of a terminal at 115200 reach a line at 9600; the speed that
// somebody could log in at is the first one of the next start.
func TestSpeed(t *testing.T) {
	p := sit(t, func(o *Options) {
		withAdmin(o)
		newSeat(*o).keep(settings{9600, "en"})
	})
	p.expect("login: ")
	p.talk("\xff\xff\xff", "Komainu", "", "login: ")
	p.enterAgain()
	if s, err := newSeat(p.o).readSettings(); err != nil || s != (settings{115200, "en"}) {
		t.Errorf("kept %v, %v", s, err)
	}
}

// TestGone: an adapter is pulled out while somebody is logged in.
func TestGone(t *testing.T) {
	p := sit(t, withAdmin)
	p.enter()
	p.gone = true
	if err := p.master.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-p.ended:
		if err == nil {
			t.Error("no error")
		}
	case <-time.After(patience):
		t.Error("Main goes on")
	}
}

// TestOtherTerminalFirst: a prompt that stood here since before the administrator
// was made at another terminal doesn't let anybody replace the password.
func TestOtherTerminalFirst(t *testing.T) {
	p := sit(t, nil)
	p.expect("login: ")
	withAdmin(&p.o)
	p.talk("admin\r", "password: ", "something else\r", "login: ", "admin\r", "password: ", secret+"\r", "komainu> ")
	if strings.Contains(p.screen(), "new password") {
		t.Error("anybody may replace the administrator's password")
	}
}
