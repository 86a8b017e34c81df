package control

import (
	"fmt"
	"net"
	"os/user"
	"strconv"

	"golang.org/x/sys/unix"
)

// Role is what a person may do; a higher one includes the lower ones.
type Role uint8

// The roles of design §8, lowest first.
const (
	NoRole Role = iota
	Viewer
	Field
	Operator
	Admin
)

var roleNames = [...]string{"none", "viewer", "field", "operator", "admin"}

func (r Role) String() string { return roleNames[r] }

// Peer is the process at the other end of a connection, as the kernel says.
type Peer struct {
	PID      int
	UID, GID uint32
	Role     Role
}

// Name is the peer's user, or its number where it has no name.
func (p Peer) Name() string {
	uid := strconv.Itoa(int(p.UID))
	if u, err := user.LookupId(uid); err == nil {
		return u.Username
	}
	return "uid " + uid
}

// peerOf reads SO_PEERCRED (unix(7)) and gives the peer its role: root is
// admin, others have the highest role that one of their groups has.
func peerOf(c *net.UnixConn, groups map[string]Role) (Peer, error) {
	cred, err := credentials(c)
	if err != nil {
		return Peer{}, err
	}
	p := Peer{PID: int(cred.Pid), UID: cred.Uid, GID: cred.Gid}
	if cred.Uid == 0 {
		p.Role = Admin
		return p, nil
	}
	for name, role := range groups {
		if role > p.Role && inGroup(p, name) {
			p.Role = role
		}
	}
	return p, nil
}

func credentials(c *net.UnixConn) (*unix.Ucred, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("peer credentials: %w", err)
	}
	var cred *unix.Ucred
	var cerr error
	if err := raw.Control(func(fd uintptr) { cred, cerr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil {
		return nil, fmt.Errorf("peer credentials: %w", err)
	}
	if cerr != nil {
		return nil, fmt.Errorf("peer credentials: %w", cerr)
	}
	return cred, nil
}

// inGroup: a group that the box doesn't have, or a user without an entry, gives
// no role; that is the safe answer.
func inGroup(p Peer, name string) bool {
	g, err := user.LookupGroup(name)
	if err != nil {
		return false
	}
	if g.Gid == strconv.Itoa(int(p.GID)) {
		return true
	}
	u, err := user.LookupId(strconv.Itoa(int(p.UID)))
	if err != nil {
		return false
	}
	ids, err := u.GroupIds()
	if err != nil {
		return false
	}
	for _, id := range ids {
		if id == g.Gid {
			return true
		}
	}
	return false
}
