package town

import (
	"fmt"
	"path/filepath"

	"komainu/tools/lab"
)

// ServerDSN is the administrator's own door to a box's server, its socket: it
// is open in every mode, also while clients are locked out.
func (w *World) ServerDSN(h *lab.Host) string {
	port := localPort
	if h == w.DB {
		port = 5432
	}
	return fmt.Sprintf("host=%s port=%d user=postgres dbname=postgres", filepath.Join(h.StateDir(), "databases", Group, "run"), port)
}
