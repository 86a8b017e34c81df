package techinfo

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"komainu/appliance/control"
	"komainu/drivers/rtnl"
)

// parts are the files of an archive. What isn't here isn't read.
func (s Sources) parts() []part {
	all := []part{
		{"config.toml", "techinfo-config", s.config},
		{"config-history.json", "techinfo-history", ask(s.Box, control.HistoryPath)},
		{"status.json", "techinfo-status", ask(s.Agent, control.StatusPath)},
		{"network.json", "techinfo-network", ask(s.Agent, control.NetworkPath)},
		{"access.json", "techinfo-access", ask(s.Agent, control.AccessPath+"?last=500")},
		{"time.json", "techinfo-time", ask(s.Time, control.TimePath)},
		{"time-clients.json", "techinfo-time", ask(s.Time, control.TimeClientsPath+"?n=100")},
		{"box.json", "techinfo-box", ask(s.Box, control.BoxPath)},
		{"units.json", "techinfo-units", ask(s.Box, "/v1/units")},
		{"versions.txt", "techinfo-versions", versions},
		{"kernel/log.txt", "techinfo-kernel-log", kernelLog},
		{"kernel/links.json", "techinfo-links", links},
		{"kernel/network.json", "techinfo-addresses", observed},
	}
	for _, name := range []string{"version", "uptime", "loadavg", "meminfo", "cpuinfo", "interrupts", "modules", "mounts", "partitions", "diskstats", "pressure/cpu", "pressure/io", "pressure/memory",
		"net/arp", "net/dev", "net/netstat", "net/route", "net/ipv6_route", "net/snmp", "net/snmp6", "net/sockstat", "net/sockstat6", "net/softnet_stat"} {
		all = append(all, part{"kernel/proc/" + name + ".txt", "techinfo-proc", file(s.Proc, name)})
	}
	if s.State == "" {
		return all
	}
	for _, name := range []string{"journal.ndjson", "time/journal.ndjson", "time/journal.ndjson.1", "log/audit.ndjson", "log/access.ndjson",
		"box/last.json", "box/running.json", "box/resets.json", "box/told.json", "image/state.json", "time/drift.json"} {
		all = append(all, part{"state/" + name, "techinfo-journal", file(s.State, name)})
	}
	for _, pattern := range []string{"log/*.log", "box/crash-*.txt", "groups/*.json", "databases/*.json"} {
		found, _ := filepath.Glob(filepath.Join(s.State, pattern)) // the pattern is good
		for _, path := range found {
			name := strings.TrimPrefix(path, s.State+"/")
			all = append(all, part{"state/" + name, "techinfo-log", file(s.State, name)})
		}
	}
	return all
}

// ask is what a daemon answers, laid out for people.
func ask(c control.Client, path string) func(context.Context) ([]byte, bool, error) {
	return func(ctx context.Context) ([]byte, bool, error) {
		var answer json.RawMessage
		if err := c.Get(ctx, path, &answer); err != nil {
			return nil, false, err
		}
		var b bytes.Buffer
		err := json.Indent(&b, answer, "", "  ")
		b.WriteByte('\n')
		return b.Bytes(), false, err
	}
}

func (s Sources) config(ctx context.Context) ([]byte, bool, error) {
	var c control.ConfigText
	err := s.Box.Get(ctx, control.ConfigPath, &c)
	return []byte(c.Text), false, err
}

// file is the end of a file below root. What isn't a plain file, or is reached
// by a symbolic link, isn't read: a link could lead to a secret.
func file(root, name string) func(context.Context) ([]byte, bool, error) {
	return func(context.Context) ([]byte, bool, error) {
		dir, err := os.OpenRoot(root)
		if err != nil {
			return nil, false, err
		}
		defer dir.Close()
		for at := name; at != "."; at = filepath.Dir(at) {
			// Only /proc/net is a link, and the kernel's own.
			if i, err := dir.Lstat(at); err == nil && i.Mode()&os.ModeSymlink != 0 {
				if at == "net" {
					return file(filepath.Join(root, "thread-self/net"), strings.TrimPrefix(name, "net/"))(context.Background())
				}
				return nil, false, fmt.Errorf("%s is a symbolic link: not followed", at)
			}
		}
		f, err := dir.OpenFile(name, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
		if err != nil {
			return nil, false, err
		}
		defer f.Close()
		i, err := f.Stat()
		if err != nil {
			return nil, false, err
		}
		if !i.Mode().IsRegular() {
			return nil, false, fmt.Errorf("%s is no plain file", name)
		}
		cut := i.Size() > partMost
		if cut {
			if _, err := f.Seek(-partMost, io.SeekEnd); err != nil {
				return nil, false, err
			}
		}
		text, err := io.ReadAll(io.LimitReader(f, partMost))
		if cut && err == nil {
			text = last(text, len(text))
		}
		return text, cut, err
	}
}

// kernelLog is the kernel's ring (syslog(2)).
func kernelLog(context.Context) ([]byte, bool, error) {
	const sizeBuffer = 10
	n, err := unix.Klogctl(sizeBuffer, nil)
	if err != nil {
		return nil, false, fmt.Errorf("size of the kernel's log: %w", err)
	}
	const readAll = 3
	b := make([]byte, n)
	if n, err = unix.Klogctl(readAll, b); err != nil {
		return nil, false, fmt.Errorf("read the kernel's log: %w", err)
	}
	return b[:n], false, nil
}

func links(context.Context) ([]byte, bool, error) {
	return kernel(func(c *rtnl.Conn) (any, error) { return c.Details() })
}

func observed(context.Context) ([]byte, bool, error) {
	return kernel(func(c *rtnl.Conn) (any, error) { return c.Observe() })
}

func kernel(read func(*rtnl.Conn) (any, error)) (text []byte, cut bool, err error) {
	c, err := rtnl.Open()
	if err != nil {
		return nil, false, err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	v, err := read(c)
	if err != nil {
		return nil, false, err
	}
	text, err = json.MarshalIndent(v, "", "  ")
	return text, false, err
}

func versions(context.Context) ([]byte, bool, error) {
	i, ok := debug.ReadBuildInfo()
	if !ok {
		return nil, false, errors.New("this program doesn't know what it was built of")
	}
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return nil, false, err
	}
	words := []string{unix.ByteSliceToString(u.Sysname[:]), unix.ByteSliceToString(u.Release[:]), unix.ByteSliceToString(u.Version[:]), unix.ByteSliceToString(u.Machine[:])}
	lines := []string{strings.Join(words, " "), i.GoVersion}
	for _, d := range i.Deps {
		lines = append(lines, d.Path+" "+d.Version)
	}
	for _, s := range i.Settings {
		if slices.Contains([]string{"vcs.revision", "vcs.time", "vcs.modified", "CGO_ENABLED", "GOARCH"}, s.Key) {
			lines = append(lines, s.Key+"="+s.Value)
		}
	}
	return []byte(strings.Join(lines, "\n") + "\n"), false, nil
}
