package serial

import (
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"

	"golang.org/x/crypto/argon2"

	"komainu/appliance/control"
	"komainu/drivers/files"
)

// usersVersion is the format of STATE/users.json.
const usersVersion = 1

// adminName is the account that the first person at the console makes.
const adminName = "admin"

// Bounds of a password, in bytes.
const passwordLeast, passwordMost = 8, 128

// users is STATE/users.json: who may log in at the console.
type users struct {
	Users []account `json:"users"`
}

// account is one person. Hash is Argon2id (RFC 9106) of the password.
type account struct {
	Name   string `json:"name"`
	Role   string `json:"role"` // "viewer", "field", "operator", "admin"
	Salt   []byte `json:"salt"` // 16 bytes
	Memory uint32 `json:"memory_kib"`
	Time   uint32 `json:"time"`
	Lanes  uint8  `json:"lanes"`
	Hash   []byte `json:"hash"` // 32 bytes
}

// The price of a guess: what OWASP's cheat sheet on password storage takes where
// memory is short (a box may have 512 MB).
const (
	argonMemory = 19 << 10 // KiB
	argonTime   = 2
	argonLanes  = 1
	// What a file may ask of us at most, lest a damaged one takes all memory.
	argonMemoryMost = 64 << 10 // KiB
	argonTimeMost   = 10
)

var nameForm = regexp.MustCompile(`^[a-z][a-z0-9._-]{0,31}$`)

// newAccount hashes a password with a fresh salt.
func newAccount(name, role, password string) account {
	a := account{Name: name, Role: role, Salt: make([]byte, 16), Memory: argonMemory, Time: argonTime, Lanes: argonLanes}
	_, _ = rand.Read(a.Salt) // never fails (crypto/rand)
	a.Hash = a.hash(password)
	return a
}

func (a *account) hash(password string) []byte {
	return argon2.IDKey([]byte(password), a.Salt, a.Time, a.Memory, a.Lanes, 32)
}

// right tells whether password is the account's, in the same time either way.
func (a *account) right(password string) bool {
	return subtle.ConstantTimeCompare(a.hash(password), a.Hash) == 1
}

func (a *account) check() error {
	switch {
	case !nameForm.MatchString(a.Name):
		return fmt.Errorf("account %q: bad name", a.Name)
	case roleOf(a.Role) == control.NoRole:
		return fmt.Errorf("account %s: no role %q", a.Name, a.Role)
	case len(a.Salt) < 8 || len(a.Hash) != 32 || a.Memory < 8 || a.Memory > argonMemoryMost ||
		a.Time < 1 || a.Time > argonTimeMost || a.Lanes < 1 || a.Lanes > 4:
		return fmt.Errorf("account %s: bad hash", a.Name)
	}
	return nil
}

func roleOf(name string) control.Role {
	for _, r := range []control.Role{control.Viewer, control.Field, control.Operator, control.Admin} {
		if r.String() == name {
			return r
		}
	}
	return control.NoRole
}

func (u *users) find(name string) *account {
	i := slices.IndexFunc(u.Users, func(a account) bool { return a.Name == name })
	if i < 0 {
		return nil
	}
	return &u.Users[i]
}

// with is u with the account a, in place of one of the same name.
func (u *users) with(a account) *users {
	all := slices.DeleteFunc(slices.Clone(u.Users), func(b account) bool { return b.Name == a.Name })
	return &users{append(all, a)}
}

func usersFile(state string) string { return filepath.Join(state, "users.json") }

// readUsers gives no account when there is no file, and an error when what is
// there can't be trusted.
func readUsers(state string) (*users, error) {
	var u users
	err := files.ReadJSON(usersFile(state), usersVersion, &u)
	if errors.Is(err, fs.ErrNotExist) {
		return &u, nil
	}
	for i := range u.Users {
		err = errors.Join(err, u.Users[i].check())
	}
	if err != nil {
		return nil, err
	}
	return &u, nil
}

func writeUsers(state string, u *users) error {
	return files.ReplaceJSON(usersFile(state), usersVersion, u)
}
