package ledger

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// AnnexTable is one table of the trial's e-application database.
type AnnexTable struct {
	Name string // M: master, T: transaction
	Rows int
	KB   int // size of its export, in KiB
}

// AnnexH1 is the trial's 49 tables with their rows and export sizes (annex H1
// of the requirements; ONB-2, ONB-5): 384,570 rows, 1,315,942 KB.
func AnnexH1() []AnnexTable {
	return []AnnexTable{
		{"M1", 381, 84}, {"M2", 714, 212}, {"M3", 46465, 5630}, {"M4", 19493, 2739},
		{"M5", 159, 12}, {"M6", 25519, 2536}, {"M7", 2, 2}, {"M8", 2870, 316},
		{"M9", 35, 4}, {"M10", 392, 33746}, {"M11", 121684, 19179}, {"M12", 21331, 4302},
		{"M13", 9, 3}, {"M14", 61, 10}, {"M15", 268, 60}, {"M16", 1438, 208},
		{"M17", 1434, 256}, {"M18", 11035, 4608}, {"M19", 8207, 1066}, {"M20", 610, 55},
		{"M21", 30567, 5344}, {"M22", 61, 6}, {"M23", 862, 517}, {"M24", 648, 101},
		{"M25", 243, 10}, {"T1", 2107, 1200}, {"T2", 5320, 528659}, {"T3", 2209, 358363},
		{"T4", 1, 2}, {"T5", 9930, 3373}, {"T6", 12037, 1968}, {"T7", 2544, 2432},
		{"T8", 17681, 2686}, {"T9", 64, 21}, {"T10", 128, 561}, {"T11", 162, 18},
		{"T12", 87, 8}, {"T13", 13, 2}, {"T14", 11, 2}, {"T15", 34544, 20310},
		{"T16", 12, 1134}, {"T17", 49, 9062}, {"T18", 2709, 2062}, {"T19", 466, 303065},
		{"T20", 1, 1}, {"T21", 3, 1}, {"T22", 2, 2}, {"T23", 1, 2},
		{"T24", 1, 2},
	}
}

// Scaled is t with that share of its rows, at least one; the size of a row
// stays.
func (t AnnexTable) Scaled(scale float64) AnnexTable {
	n := max(1, int(float64(t.Rows)*scale))
	return AnnexTable{t.Name, n, t.KB * n / t.Rows}
}

// rowBytes is how long a row's body is, so that an export is about KB long; 24
// bytes are the other columns.
func (t AnnexTable) rowBytes() int { return max(1, t.KB*1024/t.Rows-24) }

// GenerateAnnexH1 makes and fills the 49 tables, with scale (above 0, 1: all)
// of their rows. Bodies do not compress.
func GenerateAnnexH1(ctx context.Context, conn *pgx.Conn, scale float64, seed uint64) error {
	for k, full := range AnnexH1() {
		t, size := full.Scaled(scale), full.rowBytes()
		name := strings.ToLower(t.Name)
		_, err := conn.Exec(ctx, "create table "+name+" (id bigint primary key, at timestamptz not null, body text not null)")
		if err != nil {
			return fmt.Errorf("make table %s: %w", name, err)
		}
		err = table{name, []string{"id", "at", "body"}, rows(t.Rows, func(i int) []any {
			r := random(seed, tableAnnex+k<<3, i)
			return []any{int64(i), today.Add(-time.Duration(r.IntN(365*24)) * time.Hour), noise(r, size)}
		})}.copy(ctx, conn)
		if err != nil {
			return err
		}
	}
	return nil
}

// noise is n random letters, digits and signs.
func noise(r *rand.Rand, n int) string {
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	b := make([]byte, n)
	for i := 0; i < n; i += 10 {
		v := r.Uint64()
		for j := i; j < min(i+10, n); j++ {
			b[j] = letters[v&63]
			v >>= 6
		}
	}
	return string(b)
}
