package modules

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const dep = `kernel/net/9p/9pnet.ko:
kernel/fs/9p/9p.ko: kernel/net/9p/9pnet.ko kernel/fs/fscache/fscache.ko kernel/fs/netfs/netfs.ko
kernel/fs/netfs/netfs.ko:
kernel/fs/fscache/fscache.ko: kernel/fs/netfs/netfs.ko
kernel/crypto/crc32c-generic.ko:
`

func TestFiles(t *testing.T) {
	deps, err := ReadDeps(strings.NewReader(dep))
	if err != nil {
		t.Fatal(err)
	}
	files, missing := deps.Files("crc32c_generic", "9p", "9pnet", "ipv6")
	want := []string{
		"kernel/crypto/crc32c-generic.ko",
		"kernel/fs/netfs/netfs.ko", "kernel/fs/fscache/fscache.ko", "kernel/net/9p/9pnet.ko", "kernel/fs/9p/9p.ko",
	}
	if diff := cmp.Diff(want, files); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"ipv6"}, missing); diff != "" {
		t.Error(diff)
	}
}

func TestResolve(t *testing.T) {
	alias := "# Aliases extracted from modules themselves.\n" +
		"alias crypto-crc32c crc32c_generic\nalias crypto-crc32c crc32c_intel\nalias char-major-10-* misc\n"
	for in, want := range map[string][]string{
		"crypto-crc32c":     {"crc32c_generic", "crc32c_intel"},
		"char-major-10-229": {"misc"},
		"nothing":           nil,
	} {
		got, err := Resolve(strings.NewReader(alias), in)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", in, diff)
		}
	}
}
