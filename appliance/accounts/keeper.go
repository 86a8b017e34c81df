package accounts

import (
	"sync"

	"komainu/appliance/control"
)

// Keeper gives the accounts that count: those of the disk, else those that were
// last read or made here, so that a disk which fails now, or a configuration
// that is broken now, locks nobody out. Any goroutine may use it.
type Keeper struct {
	Book Book
	Disk *Disk

	mu   sync.Mutex
	last *People
}

// People gives everybody; never nil. The error is that of Book.Read, or ErrDisk.
func (k *Keeper) People() (*People, error) {
	p, err := OnDisk(k.Disk, k.Book.Read)
	k.mu.Lock()
	defer k.mu.Unlock()
	if p == nil {
		p = &People{}
	}
	if k.last != nil {
		if len(p.local) == 0 && len(k.last.local) > 0 {
			p.local, err = k.last.local, nil
		}
		if p.configured == nil { // none are told from none that could be read below
			p.configured = k.last.configured
		}
	}
	k.last = p
	return p, err
}

// SetAdmin keeps the administrator's password, in any case until the process
// ends; the error is the disk's.
func (k *Keeper) SetAdmin(w Password) error {
	k.mu.Lock()
	last := &People{}
	if k.last != nil {
		*last = *k.last
	}
	last.local = withAccount(last.local, Account{Name: Admin, Role: control.Admin, Password: &w})
	k.last = last
	k.mu.Unlock()
	return k.Disk.Write(func() error { return k.Book.SetLocal(Admin, control.Admin, w) })
}
