package clock

import (
	"errors"
	"math"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestRead(t *testing.T) {
	a, b := Read(), Read()
	if b.Boot < a.Boot || b.Raw < a.Raw {
		t.Errorf("%+v, then %+v", a, b)
	}
	if off := time.Since(time.Unix(0, int64(a.Wall))).Abs(); off > 10*time.Second {
		t.Errorf("the wall clock is %v away from what Go says", off)
	}
	if off := a.Boot.Sub(Now()).Abs(); off > 10*time.Second {
		t.Errorf("the boot clock is %v away from Now", off)
	}
	t.Logf("clocks of one reading within ±%v, precision 2^%d s", ReadError(), Precision())
	if p := Precision(); p > -6 || p < -30 {
		t.Errorf("precision 2^%d s", p)
	}
}

func TestReadState(t *testing.T) {
	s, err := ReadState()
	if err != nil {
		t.Fatal(err)
	}
	if math.Abs(s.Frequency) > MaxFrequency || s.Tick < 9000 || s.Tick > 11000 {
		t.Errorf("%+v", s)
	}
}

// What the kernel would cut or ignore silently is refused before it is asked.
func TestOutOfRange(t *testing.T) {
	for what, err := range map[string]error{
		"frequency": SetFrequency(500.01), "no number": SetFrequency(math.NaN()),
		"slew": Slew(-501*time.Millisecond, 2), "constant": Slew(0, 11), "leap": SetLeap(2), "TAI": SetTAI(-1),
	} {
		if err == nil {
			t.Errorf("%s was taken", what)
		}
	}
}

func TestNoRTC(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "rtc0")
	if _, err := ReadRTC(missing); !errors.Is(err, ErrNoRTC) {
		t.Error(err)
	}
	if err := SetRTC(missing, 0); !errors.Is(err, ErrNoRTC) {
		t.Error(err)
	}
	other := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(other, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadRTC(other); err == nil || errors.Is(err, ErrNoRTC) {
		t.Errorf("a plain file: %v", err)
	}
}

func TestVirtual(t *testing.T) {
	const (
		physical = "processor\t: 0\nflags\t\t: fpu vme tsc\nprocessor\t: 1\nflags\t\t: fpu vme tsc\n"
		guest    = "processor\t: 0\nflags\t\t: fpu vme hypervisor tsc\n"
	)
	for name, c := range map[string]struct {
		files map[string]string
		want  string
		ok    bool
	}{
		"a server":        {map[string]string{"proc/cpuinfo": physical, "sys/class/dmi/id/sys_vendor": "Dell Inc.\n", "sys/class/dmi/id/product_name": "PowerEdge R250\n"}, "", false},
		"QEMU":            {map[string]string{"proc/cpuinfo": guest, "sys/class/dmi/id/sys_vendor": "QEMU\n", "sys/class/dmi/id/product_name": "Standard PC\n"}, "QEMU", true},
		"hides its bit":   {map[string]string{"proc/cpuinfo": physical, "sys/class/dmi/id/sys_vendor": "VMware, Inc.\n"}, "VMware", true},
		"Hyper-V":         {map[string]string{"sys/class/dmi/id/sys_vendor": "Microsoft Corporation\n", "sys/class/dmi/id/product_name": "Virtual Machine\n"}, "Hyper-V", true},
		"a Surface":       {map[string]string{"sys/class/dmi/id/sys_vendor": "Microsoft Corporation\n", "sys/class/dmi/id/product_name": "Surface\n"}, "", false},
		"Xen":             {map[string]string{"sys/hypervisor/type": "xen\n"}, "xen", true},
		"no firmware":     {map[string]string{"proc/cpuinfo": guest}, "unknown hypervisor", true},
		"nothing to read": {nil, "", false},
	} {
		root := t.TempDir()
		for file, text := range c.files {
			path := filepath.Join(root, file)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		got, ok := Virtual(root)
		if diff := cmp.Diff(c.want, got); diff != "" || ok != c.ok {
			t.Errorf("%s: %v %s", name, ok, diff)
		}
	}
}

func TestWatchEnds(t *testing.T) {
	w, err := NewWatch()
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
}
