// Package privilege cuts what this process may do down to a few capabilities
// (capabilities(7)), for all of its threads and for good, and tells what a
// process holds. It decides nothing about which ones. Start reading at Cut.
package privilege

import (
	"errors"
	"fmt"
	"math/bits"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Set is a set of capabilities: bit n is capability n of linux/capability.h.
type Set uint64

// Capabilities that the project's daemons keep.
const (
	BindService Set = 1 << unix.CAP_NET_BIND_SERVICE // ports below 1024
	NetAdmin    Set = 1 << unix.CAP_NET_ADMIN        // IPsec's associations and policies, routes
	NetRaw      Set = 1 << unix.CAP_NET_RAW          // packet sockets
	SysTime     Set = 1 << unix.CAP_SYS_TIME         // clock_adjtime(2) that changes something, the hardware clock
)

var names = []struct {
	set  Set
	name string
}{{BindService, "CAP_NET_BIND_SERVICE"}, {NetAdmin, "CAP_NET_ADMIN"}, {NetRaw, "CAP_NET_RAW"}, {SysTime, "CAP_SYS_TIME"}}

// String is the names of those that have one here, and the others' numbers.
func (s Set) String() string {
	var out []string
	for _, n := range names {
		if s&n.set != 0 {
			out = append(out, n.name)
			s &^= n.set
		}
	}
	for ; s != 0; s &= s - 1 {
		out = append(out, fmt.Sprintf("capability %d", bits.TrailingZeros64(uint64(s))))
	}
	if out == nil {
		return "none"
	}
	return strings.Join(out, ", ")
}

// Cut takes everything but keep from the effective and permitted sets of every
// thread, and from the bounding set; it empties the inheritable and ambient
// sets and sets no_new_privs, so that no program started from here gets more
// either. What the process never had, it doesn't get. Who lacks CAP_SETPCAP
// can't narrow the bounding set, which then stays: with no_new_privs it gives
// nothing. It returns what is left, read back, and an error if that is more
// than keep. There is no way back.
//
// User and group stay: as root, files that only root may read are still read,
// but not those that root could only read by CAP_DAC_OVERRIDE.
func Cut(keep Set) (Held, error) {
	if err := cut(keep); err != nil {
		return Held{}, fmt.Errorf("cut privileges to %s: %w", keep, err)
	}
	held, err := Of("self")
	if err != nil {
		return Held{}, err
	}
	if more := (held.Effective | held.Permitted | held.Inheritable | held.Ambient) &^ keep; more != 0 || !held.NoNewPrivs {
		return held, fmt.Errorf("cut privileges to %s: the kernel took the order, but %s is still held (no_new_privs %v)", keep, more, held.NoNewPrivs)
	}
	return held, nil
}

func cut(keep Set) error {
	if err := everywhere("PR_SET_NO_NEW_PRIVS", unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1); err != nil {
		return err
	}
	if err := everywhere("PR_CAP_AMBIENT_CLEAR_ALL", unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL); err != nil {
		return err
	}
	for n := uintptr(0); ; n++ {
		has, _, errno := syscall.RawSyscall(unix.SYS_PRCTL, unix.PR_CAPBSET_READ, n, 0)
		if errno != 0 {
			break // the kernel has no more
		}
		if has == 0 || keep&(1<<n) != 0 {
			continue
		}
		err := everywhere("PR_CAPBSET_DROP", unix.SYS_PRCTL, unix.PR_CAPBSET_DROP, n)
		if errors.Is(err, unix.EPERM) {
			break // no CAP_SETPCAP
		}
		if err != nil {
			return err
		}
	}
	held, err := Of("self")
	if err != nil {
		return err
	}
	left := keep & held.Permitted
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3} // process 0: the calling thread
	data := [2]unix.CapUserData{}
	for i := range data {
		word := uint32(left >> (32 * i))
		data[i] = unix.CapUserData{Effective: word, Permitted: word}
	}
	if _, _, errno := syscall.AllThreadsSyscall(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&head)), uintptr(unsafe.Pointer(&data[0])), 0); errno != 0 {
		return refused("capset", errno)
	}
	return nil
}

// everywhere makes a system call in all threads at once. The Go runtime holds
// the process for it, and knows every thread only in a program without cgo.
func everywhere(what string, call, a, b uintptr) error {
	if _, _, errno := syscall.AllThreadsSyscall6(call, a, b, 0, 0, 0, 0); errno != 0 {
		return refused(what, errno)
	}
	return nil
}

func refused(what string, errno syscall.Errno) error {
	if errno == unix.ENOTSUP {
		return fmt.Errorf("%s in all threads: %w: build with CGO_ENABLED=0", what, errno)
	}
	return fmt.Errorf("%s: %w", what, errno)
}
