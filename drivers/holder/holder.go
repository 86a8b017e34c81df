// Package holder names the process that has a port, for error messages.
package holder

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Of names the process that has a port of protocol "udp" or "tcp" in this network
// namespace: "chronyd (process 123)". Of several it is the first that isn't this
// process, which may have the port on another address. It is "another process"
// where that can't be seen.
func Of(protocol string, port uint16) string {
	var inodes []string
	for _, table := range []string{protocol, protocol + "6"} {
		text, err := os.ReadFile("/proc/thread-self/net/" + table)
		if err != nil {
			continue // then it isn't found
		}
		inodes = append(inodes, holding(string(text), port)...)
	}
	for _, inode := range inodes {
		links, _ := filepath.Glob("/proc/[0-9]*/fd/*") // fails only for a bad pattern
		for _, link := range links {
			if to, err := os.Readlink(link); err != nil || to != "socket:["+inode+"]" {
				continue
			}
			pid := strings.Split(link, "/")[2]
			if pid == strconv.Itoa(os.Getpid()) {
				continue
			}
			name, err := os.ReadFile("/proc/" + pid + "/comm")
			if err != nil {
				continue
			}
			return fmt.Sprintf("%s (process %s)", strings.TrimSpace(string(name)), pid)
		}
	}
	return "another process"
}

// holding returns the inodes of the sockets that have a port and no peer, from
// the text of /proc/net/udp or tcp (proc(5)).
func holding(table string, port uint16) []string {
	var inodes []string
	for line := range strings.Lines(table) {
		f := strings.Fields(line)
		if len(f) < 10 {
			continue
		}
		if !strings.HasSuffix(f[2], ":0000") {
			continue // connected
		}
		_, hex, ok := strings.Cut(f[1], ":")
		if p, err := strconv.ParseUint(hex, 16, 16); ok && err == nil && uint16(p) == port {
			inodes = append(inodes, f[9])
		}
	}
	return inodes
}
