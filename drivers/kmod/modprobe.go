package kmod

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
)

// Modprobe is the applet that the kernel calls when it needs a module,
// "modprobe -q -- NAME" (kernel/kmod.c), and returns modprobe's exit code: 0 or
// 1. Other options are ignored. Under root there is RELEASE/modules.dep.
func Modprobe(args []string, root string, complain io.Writer) int {
	quiet, name := false, ""
	for i, a := range args {
		if a == "--" {
			if i+1 < len(args) {
				name = args[i+1]
			}
			break
		}
		if !strings.HasPrefix(a, "-") {
			name = a
			break
		}
		quiet = quiet || a == "-q" || a == "--quiet"
	}
	if name == "" {
		fmt.Fprintln(complain, "usage: modprobe [-q] [--] NAME|ALIAS")
		return 1
	}
	release, err := Release()
	if err == nil {
		err = load(filepath.Join(root, release), name)
	}
	if err != nil && (!quiet || !errors.Is(err, ErrUnknown)) {
		fmt.Fprintln(complain, "modprobe:", err)
	}
	if err != nil {
		return 1
	}
	return 0
}

func load(dir, name string) error {
	l, err := Open(dir)
	if err != nil {
		return err
	}
	return l.Load(name)
}
