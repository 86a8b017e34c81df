package privilege

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// The test program runs itself again, since there is no way back from Cut.
const childEnv = "KOMAINU_PRIVILEGE_CHILD"

func TestMain(m *testing.M) {
	if keep := os.Getenv(childEnv); keep != "" {
		if err := child(keep); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// child cuts while several threads run, and says what it then may do.
func child(keep string) error {
	var n uint64
	var uid int
	if _, err := fmt.Sscan(keep, &n, &uid); err != nil {
		return err
	}
	if err := syscall.Setuid(uid); err != nil { // all threads of a Go program
		return err
	}
	stop := make(chan struct{})
	defer close(stop)
	for range 5 { // threads of their own
		started := make(chan struct{})
		go func() {
			runtime.LockOSThread()
			close(started)
			<-stop
		}()
		<-started
	}
	held, err := Cut(Set(n))
	if err != nil {
		return err
	}
	_, raw := unix.Socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP)
	out, err := exec.Command("/bin/cat", "/proc/self/status").Output()
	if err != nil {
		return err
	}
	program, err := parse(string(out))
	if err != nil {
		return err
	}
	fmt.Printf("held %+v\nraw socket %v\nchroot %v\nprogram %+v\n", held, raw, syscall.Chroot("/"), program)
	return nil
}

func cutAs(t *testing.T, uid int, keep Set) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(self)
	c.Dir, c.Env = "/", []string{fmt.Sprintf("%s=%d %d", childEnv, keep, uid)}
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return string(out)
}

func TestHostCut(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root, who has something to give up")
	}
	for _, keep := range []Set{BindService, BindService | SysTime} {
		got := cutAs(t, 0, keep)
		want := fmt.Sprintf(`held {Effective:%[1]s Permitted:%[1]s Inheritable:none Bounding:%[1]s Ambient:none NoNewPrivs:true}
raw socket operation not permitted
chroot operation not permitted
program {Effective:%[1]s Permitted:%[1]s Inheritable:none Bounding:%[1]s Ambient:none NoNewPrivs:true}
`, keep)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("keep %s (-want +got):\n%s", keep, diff)
		}
	}
}

// Who has nothing gets nothing, and may still be cut.
func TestHostCutNobody(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root, to become somebody else")
	}
	got := cutAs(t, 65534, BindService|SysTime)
	if !strings.HasPrefix(got, "held {Effective:none Permitted:none Inheritable:none ") || !strings.Contains(got, "NoNewPrivs:true") {
		t.Error(got)
	}
}

func TestParse(t *testing.T) {
	const good = "Name:\tx\nCapInh:\t0000000000000000\nCapPrm:\t0000000002000400\nCapEff:\t0000000002000000\nCapBnd:\t000001ffffffffff\nCapAmb:\t0000000000000000\nNoNewPrivs:\t1\n"
	h, err := parse(good)
	want := Held{Effective: SysTime, Permitted: BindService | SysTime, Bounding: 1<<41 - 1, NoNewPrivs: true}
	if err != nil || h != want {
		t.Errorf("got %+v, %v", h, err)
	}
	for _, bad := range []string{"", strings.Replace(good, "CapAmb", "CapXyz", 1), strings.Replace(good, "NoNewPrivs", "Old", 1), strings.Replace(good, "0002000400", "x", 1)} {
		if _, err := parse(bad); err == nil {
			t.Errorf("no error for %q", bad)
		}
	}
}

func TestOfNobody(t *testing.T) {
	if _, err := Of("0"); err == nil {
		t.Error("process 0 has privileges")
	}
}

func TestSetString(t *testing.T) {
	for s, want := range map[Set]string{0: "none", BindService | SysTime: "CAP_NET_BIND_SERVICE, CAP_SYS_TIME", SysTime | 1<<21: "CAP_SYS_TIME, capability 21"} {
		if got := s.String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
