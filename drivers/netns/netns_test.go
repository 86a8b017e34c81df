package netns_test

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"testing"

	"komainu/drivers/netns"
)

func inode(t *testing.T) string {
	t.Helper()
	s, err := os.Readlink("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestDoRunsInsideAndComesBack(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("network namespaces need root")
	}
	name := fmt.Sprintf("kmn-netns-%d", os.Getpid())
	if err := netns.New(name); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := netns.Delete(name); err != nil {
			t.Error(err)
		}
		if err := netns.Delete(name); err != nil {
			t.Error("a second delete:", err)
		}
	})
	if err := netns.New(name); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a second New gave %v, want fs.ErrExist", err)
	}
	before := inode(t)
	var inside string
	want := errors.New("from inside")
	if err := netns.Do(name, func() error {
		inside = inode(t)
		ifs, err := net.Interfaces()
		if err != nil || len(ifs) != 1 || ifs[0].Name != "lo" {
			t.Errorf("links inside: %v %v, want lo alone", ifs, err)
		}
		return want
	}); !errors.Is(err, want) {
		t.Errorf("Do gave %v, want the func's own error", err)
	}
	if inside == before {
		t.Error("the func ran outside the namespace")
	}
	if after := inode(t); after != before {
		t.Errorf("came back to %s, want %s", after, before)
	}
}

func TestNamesThatAreNoFileNames(t *testing.T) {
	for _, name := range []string{"", ".", "..", "a/b"} {
		for what, err := range map[string]error{
			"New": netns.New(name), "Delete": netns.Delete(name),
			"Do": netns.Do(name, func() error { return nil }),
		} {
			if !errors.Is(err, netns.ErrName) {
				t.Errorf("%s(%q) gave %v, want ErrName", what, name, err)
			}
		}
	}
}
