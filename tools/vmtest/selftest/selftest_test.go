package selftest

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

func inGuest(t *testing.T) {
	t.Helper()
	if os.Getenv("KOMAINU_VM") != "1" {
		t.Skip("looks at the stock kernel of make vm; this is not it")
	}
}

func run(t *testing.T, command string) {
	t.Helper()
	argv := strings.Fields(command)
	if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
		t.Errorf("%s: %v\n%s", command, err, out)
	}
}

func TestHostStockKernel(t *testing.T) {
	inGuest(t)
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		t.Fatal(err)
	}
	if release := unix.ByteSliceToString(name.Release[:]); !strings.HasSuffix(release, "-amd64") {
		t.Errorf("kernel %s is not Debian's", release)
	}
	run(t, "ip link add selftest0 type bond mode active-backup miimon 20")
	run(t, "ip link add selftest1 type dummy")
	run(t, "ip link set selftest1 master selftest0")
	run(t, "ip link add link selftest0 name selftest0.7 type vlan id 7")
	run(t, "tc qdisc add dev selftest1 root fq_codel")
}

// WireGuard is not in modules.txt: the kernel asks modprobe for it.
func TestHostModuleOnRequest(t *testing.T) {
	inGuest(t)
	run(t, "ip link add selftest2 type wireguard")
}

func TestHostNftables(t *testing.T) {
	inGuest(t)
	conn, err := nftables.New()
	if err != nil {
		t.Fatal(err)
	}
	table := conn.AddTable(&nftables.Table{Name: "selftest", Family: nftables.TableFamilyINet})
	chain := conn.AddChain(&nftables.Chain{
		Name: "selftest", Table: table, Type: nftables.ChainTypeNAT,
		Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityNATDest,
	})
	conn.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: []expr.Any{
		&expr.Ct{Register: 1, Key: expr.CtKeySTATE}, &expr.Counter{},
	}})
	if err := conn.Flush(); err != nil {
		t.Error(err)
	}
}

func TestHostFiles(t *testing.T) {
	inGuest(t)
	if err := os.WriteFile("/usr/selftest", nil, 0o600); err != nil {
		t.Errorf("the root is not writable: %v", err)
	}
	if _, err := os.Stat("selftest_test.go"); err != nil {
		t.Errorf("the test doesn't run in its package's folder: %v", err)
	}
}
