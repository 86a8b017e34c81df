package root

import (
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"komainu/images/debs"
	"komainu/images/layout"
)

// TestHostBoot starts Debian's kernel with what goes into the image and an init
// of its own, which tries what the image brings: see testdata/probe.
func TestHostBoot(t *testing.T) {
	if testing.Short() {
		t.Skip("boots a machine")
	}
	for _, program := range []string{"qemu-system-x86_64", "dpkg-deb", "apt-get", "depmod"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("needs %s: run make setup-test", program)
		}
	}
	dir := t.TempDir()
	probe := filepath.Join(dir, "probe")
	build := exec.Command("go", "build", "-o", probe, "./testdata/probe")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	const cache = "../../out/image"
	tell := func(s string) { t.Log(s) }
	packages, err := debs.Fetch(t.Context(), filepath.Join(cache, "debs"), debs.Names(), tell)
	if err != nil {
		t.Fatal(err)
	}
	r, err := Build(t.Context(), Config{
		Packages: packages, Program: probe, Keys: keys(t), Build: layout.Build{Version: "1", Unix: 1e9}, Cache: cache, Tell: tell,
	})
	if err != nil {
		t.Fatal(err)
	}
	initramfs := filepath.Join(dir, "initramfs")
	f, err := os.Create(initramfs)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, write := range []func(io.Writer) error{r.WriteBase, r.WriteTop} {
		if err := write(f); err != nil {
			t.Fatal(err)
		}
	}
	said := boot(t, r.Kernel, initramfs)
	for line := range strings.Lines(said) {
		if strings.Contains(line, "FAIL") {
			t.Error(strings.TrimSpace(line))
		}
	}
	digest := "row 42ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb" // SHA-256 of "a"
	for _, must := range []string{"from the shell", "modprobe -> /bin/komainu", digest, "ok charon's socket", "DONE"} {
		if !strings.Contains(said, must) {
			t.Errorf("the machine never said %q", must)
		}
	}
	if t.Failed() {
		t.Log(said)
	}
}

// boot returns what the machine says until it turns itself off.
func boot(t *testing.T, kernel, initramfs string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "nice", "qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "1024",
		"-nic", "none", "-display", "none", "-serial", "stdio", "-monitor", "none", "-no-reboot",
		"-kernel", kernel, "-initrd", initramfs, "-append", Cmdline)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	begin := time.Now()
	if err := cmd.Run(); err != nil {
		t.Errorf("qemu: %v", err)
	}
	t.Logf("the machine ran for %.0f s", time.Since(begin).Seconds())
	return out.String()
}
