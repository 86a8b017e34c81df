// Package accounts holds who may log in, with which rights, and the records of
// what they did: the accounts of the configuration and the administrator made at
// the first login on a terminal, their passwords and keys, the delay after wrong
// ones, who is inside, and the audit. It asks nobody anything and shows nothing.
// Start reading at Book.
package accounts

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	gossh "golang.org/x/crypto/ssh"

	"komainu/appliance/control"
	"komainu/drivers/files"
)

// usersVersion is the format of STATE/users.json.
const usersVersion = 1

// Admin is the account that the first person at a terminal makes.
const Admin = "admin"

var nameForm = regexp.MustCompile(`^[a-z][a-z0-9._-]{0,31}$`)

// Plain keeps what can't be a name out of the records: it may be a password
// typed in the wrong place, or noise.
func Plain(name string) string {
	if nameForm.MatchString(name) {
		return name
	}
	return "?"
}

// Account is one person who may log in.
type Account struct {
	Name       string
	Role       control.Role
	Password   *Password         // nil: none, keys only
	Secret     string            // "secret:NAME" that holds Password; "": STATE/users.json does
	Keys       []gossh.PublicKey // for SSH
	Configured bool              // by [[user]]
}

// Right tells whether word is the password; for nil, and for an account without
// one, it is not, after the same time.
func (a *Account) Right(word string) bool {
	if a == nil || a.Password == nil {
		stranger := Password{Salt: make([]byte, 16), Memory: argonMemory, Time: argonTime, Lanes: argonLanes}
		stranger.right(word)
		return false
	}
	return a.Password.right(word)
}

// HasKey tells whether key is one of the account's.
func (a *Account) HasKey(key gossh.PublicKey) bool {
	return a != nil && slices.ContainsFunc(a.Keys, func(k gossh.PublicKey) bool {
		return string(k.Marshal()) == string(key.Marshal())
	})
}

// User is [[user]] of the configuration.
type User struct {
	Name     string
	Role     string   // "viewer", "field", "operator", "admin"
	Password string   // "secret:NAME" of a PHC string; "": none
	Keys     []string // lines of authorized_keys (sshd(8)), without options
}

// People is everybody who may log in.
type People struct {
	local, configured []Account
}

// Find is the account of a name: the configuration's before that of users.json;
// nil: nobody's.
func (p *People) Find(name string) *Account {
	return pick(name, p.configured, p.local)
}

// FindHere is Find for a terminal of the box itself: the administrator who was
// made there stays the one, whatever the configuration says, so that a bad one
// locks nobody out.
func (p *People) FindHere(name string) *Account {
	if name == Admin {
		return pick(name, p.local, p.configured)
	}
	return p.Find(name)
}

func pick(name string, lists ...[]Account) *Account {
	for _, all := range lists {
		if i := slices.IndexFunc(all, func(a Account) bool { return a.Name == name }); i >= 0 {
			return &all[i]
		}
	}
	return nil
}

// All are the accounts that Find finds, by name.
func (p *People) All() []Account {
	all := slices.Clone(p.configured)
	for _, a := range p.local {
		if pick(a.Name, p.configured) == nil {
			all = append(all, a)
		}
	}
	slices.SortFunc(all, func(a, b Account) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// Nobody tells that no administrator can log in with a password: the first
// person at a terminal makes one.
func (p *People) Nobody() bool {
	return len(p.local) == 0 && !slices.ContainsFunc(p.configured, func(a Account) bool {
		return a.Role == control.Admin && a.Password != nil
	})
}

// stored is STATE/users.json.
type stored struct {
	Users []storedUser `json:"users"`
}

type storedUser struct {
	Name string `json:"name"`
	Role string `json:"role"`
	Password
}

// Book is where the accounts stand.
type Book struct {
	State string // folder of users.json and secrets
	// Users gives the [[user]] of the configuration; nil: none.
	Users func() ([]User, error)
}

// UsersFile is the file of the accounts made at a terminal.
func (b Book) UsersFile() string { return filepath.Join(b.State, "users.json") }

func (b Book) secrets() files.Secrets { return files.Secrets{Dir: filepath.Join(b.State, "secrets")} }

// Read gives everybody; never nil. An error says that the accounts of
// users.json can't be trusted and were left out. A configuration that can't be
// read has no accounts here; who holds the configuration's life tells of it.
func (b Book) Read() (*People, error) {
	local, err := b.readLocal()
	p := &People{local: local}
	if b.Users == nil {
		return p, err
	}
	users, cerr := b.Users()
	if cerr != nil {
		return p, err
	}
	for _, u := range users {
		role := RoleOf(u.Role)
		if u.Name == "" || role == control.NoRole {
			continue // config check tells
		}
		a := Account{Name: u.Name, Role: role, Secret: u.Password, Configured: true}
		if a.Secret != "" {
			if phc, err := b.secrets().Resolve(a.Secret); err == nil { // else no password, until somebody sets one
				if w, err := ParsePassword(strings.TrimSpace(string(phc))); err == nil {
					a.Password = &w
				}
			}
		}
		for _, line := range u.Keys {
			if k, _, _, _, err := gossh.ParseAuthorizedKey([]byte(line)); err == nil {
				a.Keys = append(a.Keys, k)
			}
		}
		p.configured = append(p.configured, a)
	}
	return p, err
}

// readLocal gives no account when there is no file, and an error when what is
// there can't be trusted.
func (b Book) readLocal() ([]Account, error) {
	var s stored
	err := files.ReadJSON(b.UsersFile(), usersVersion, &s)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var all []Account
	for _, u := range s.Users {
		a := Account{Name: u.Name, Role: RoleOf(u.Role), Password: &u.Password}
		if !nameForm.MatchString(a.Name) || a.Role == control.NoRole || a.Password.check() != nil {
			err = errors.Join(err, fmt.Errorf("account %q: bad name, role %q or hash", u.Name, u.Role))
		}
		all = append(all, a)
	}
	if err != nil {
		return nil, err
	}
	return all, nil
}

// ErrNoPassword says that an account of the configuration names no secret that
// could hold a password.
var ErrNoPassword = errors.New("the configuration gives this account no password")

// SetPassword keeps a new password where the account has it: in the secret that
// the configuration names, else in users.json.
func (b Book) SetPassword(a Account, w Password) error {
	switch {
	case a.Configured && a.Secret == "":
		return fmt.Errorf("%w: add password = \"secret:NAME\" to [[user]] %s", ErrNoPassword, a.Name)
	case a.Configured:
		return b.secrets().Put(strings.TrimPrefix(a.Secret, "secret:"), []byte(w.String()+"\n"))
	}
	return b.SetLocal(a.Name, a.Role, w)
}

// SetLocal adds or replaces an account of users.json. A file that can't be
// trusted is replaced whole: only its owner, at a terminal in rescue, gets here.
func (b Book) SetLocal(name string, role control.Role, w Password) (err error) {
	unlock, err := locked(b.UsersFile() + ".lock")
	if err != nil {
		return fmt.Errorf("set the password of %s: %w", name, err)
	}
	defer func() { err = errors.Join(err, unlock()) }()
	local, _ := b.readLocal()
	var s stored
	for _, a := range withAccount(local, Account{Name: name, Role: role, Password: &w}) {
		s.Users = append(s.Users, storedUser{a.Name, a.Role.String(), *a.Password})
	}
	return files.ReplaceJSON(b.UsersFile(), usersVersion, s)
}

// withAccount is all with a, in place of one of the same name.
func withAccount(all []Account, a Account) []Account {
	return append(slices.DeleteFunc(slices.Clone(all), func(b Account) bool { return b.Name == a.Name }), a)
}

// RoleOf is the role of a name; NoRole where there is none.
func RoleOf(name string) control.Role {
	for _, r := range []control.Role{control.Viewer, control.Field, control.Operator, control.Admin} {
		if r.String() == name {
			return r
		}
	}
	return control.NoRole
}
