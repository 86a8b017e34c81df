package ntpquery

import (
	"fmt"
	"net"
	"unsafe"

	"golang.org/x/sys/unix"

	"komainu/ntp/wall"
)

// stampSends makes the kernel note when it hands a datagram to the network card
// (timestamping.rst). The library's own stamp is taken before the system call,
// and a busy box can be long in between.
func stampSends(conn *net.UDPConn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var set error
	err = raw.Control(func(fd uintptr) {
		set = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_TIMESTAMPING,
			unix.SOF_TIMESTAMPING_TX_SOFTWARE|unix.SOF_TIMESTAMPING_SOFTWARE|unix.SOF_TIMESTAMPING_OPT_TSONLY)
	})
	if err == nil {
		err = set
	}
	if err != nil {
		return fmt.Errorf("ask for the kernel's transmit time stamps: %w", err)
	}
	return nil
}

// sendStamp is when the kernel sent the socket's only datagram; 0 when the
// network card's driver doesn't tell.
func sendStamp(conn *net.UDPConn) wall.Time {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0
	}
	var (
		control [256]byte
		n       int
		got     error
	)
	err = raw.Control(func(fd uintptr) {
		_, n, _, _, got = unix.Recvmsg(int(fd), nil, control[:], unix.MSG_ERRQUEUE|unix.MSG_DONTWAIT)
	})
	if err != nil || got != nil {
		return 0
	}
	messages, err := unix.ParseSocketControlMessage(control[:n])
	if err != nil {
		return 0
	}
	for _, m := range messages {
		// Three time stamps (struct scm_timestamping); the first is the kernel's.
		if m.Header.Level == unix.SOL_SOCKET && m.Header.Type == unix.SCM_TIMESTAMPING && len(m.Data) >= int(unsafe.Sizeof(unix.Timespec{})) {
			stamp := (*unix.Timespec)(unsafe.Pointer(&m.Data[0]))
			return wall.Time(stamp.Nano())
		}
	}
	return 0
}
