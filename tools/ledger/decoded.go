package ledger

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
)

// NumbersOf finds the ledger's numbers in rows as test_decoding prints them:
//
//	table public.ledger: INSERT: n[bigint]:123 clerk[text]:'c1' ...
//
// Other tables, other changes and whatever is no row are passed over.
func NumbersOf(rows []string) []int64 {
	var out []int64
	for _, r := range rows {
		rest, ok := strings.CutPrefix(strings.TrimSpace(r), "table public.ledger: INSERT: n[bigint]:")
		if !ok {
			continue
		}
		word, _, _ := strings.Cut(rest, " ")
		if n, err := strconv.ParseInt(word, 10, 64); err == nil {
			out = append(out, n)
		}
	}
	return out
}

// Present reads the numbers that are in the database now.
func Present(ctx context.Context, conn *pgx.Conn) ([]int64, error) {
	rows, err := conn.Query(ctx, "select n from ledger order by n")
	if err != nil {
		return nil, fmt.Errorf("read the ledger's numbers: %w", err)
	}
	ns, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		return nil, fmt.Errorf("read the ledger's numbers: %w", err)
	}
	return ns, nil
}
