package ledger

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"fmt"
	"io"
	"iter"
	"maps"
	"slices"

	"github.com/jackc/pgx/v5"
)

//go:embed schema.sql
var schema string

//go:embed indexes.sql
var indexes string

// table is one generated table: its rows in order.
type table struct {
	name    string
	columns []string
	rows    iter.Seq[[]any]
}

// Generate makes the tables in an empty database and fills them. The same size
// and seed give the same rows.
func Generate(ctx context.Context, conn *pgx.Conn, size Size, seed uint64) error {
	if _, err := conn.Exec(ctx, schema); err != nil {
		return fmt.Errorf("make the ledger's tables: %w", err)
	}
	for _, t := range town(size, seed) {
		if err := t.copy(ctx, conn); err != nil {
			return err
		}
	}
	if _, err := conn.Exec(ctx, "select setval('certificate_number', $1)", size.Certificates()); err != nil {
		return fmt.Errorf("set the certificate number: %w", err)
	}
	if _, err := conn.Exec(ctx, indexes); err != nil {
		return fmt.Errorf("make the ledger's indexes: %w", err)
	}
	return nil
}

// Digest is the SHA-256 of all rows that Generate would write, in hexadecimal.
func Digest(size Size, seed uint64) string {
	h := sha256.New()
	for _, t := range town(size, seed) {
		t.write(h)
	}
	return hex.EncodeToString(h.Sum(nil))
}

func (t table) write(w io.Writer) {
	fmt.Fprintln(w, t.name, t.columns)
	for row := range t.rows {
		fmt.Fprintln(w, row...)
	}
}

func (t table) copy(ctx context.Context, conn *pgx.Conn) error {
	next, stop := iter.Pull(t.rows)
	defer stop()
	src := pgx.CopyFromFunc(func() ([]any, error) {
		row, _ := next()
		return row, nil
	})
	if _, err := conn.CopyFrom(ctx, pgx.Identifier{t.name}, t.columns, src); err != nil {
		return fmt.Errorf("fill table %s: %w", t.name, err)
	}
	return nil
}

// rows makes n rows, numbered from 1.
func rows(n int, row func(i int) []any) iter.Seq[[]any] {
	return func(yield func([]any) bool) {
		for i := 1; i <= n; i++ {
			if !yield(row(i)) {
				return
			}
		}
	}
}

// town is every table of the ledger but those that only clerks fill.
func town(size Size, seed uint64) []table {
	return []table{
		{"household", []string{"id", "address", "since"}, rows(size.Households(), func(i int) []any {
			r := random(seed, tableHousehold, i)
			r.IntN(len(families)) // the first number is the family name
			return []any{int64(i), address(r), today.AddDate(0, 0, -r.IntN(40*365))}
		})},
		{"resident", []string{"id", "household", "name", "kana", "birth", "sex"}, rows(size.People, func(i int) []any {
			p := size.Person(seed, i)
			return []any{p.ID, p.Household, p.Name, p.Kana, p.Birth, p.Sex}
		})},
		{"register_row", []string{"id", "resident", "kind", "at", "body"}, rows(size.Rows, func(i int) []any {
			r := random(seed, tableRegister, i)
			// Everybody has a first row; the history is spread by chance.
			who, kind := i, "記載"
			if i > size.People {
				kinds := [...]string{"転居", "世帯変更", "氏名変更", "続柄修正", "住所修正"}
				who, kind = 1+r.IntN(size.People), kinds[r.IntN(len(kinds))]
			}
			return []any{int64(i), int64(who), kind, today.AddDate(0, 0, -r.IntN(40*365)), address(r)}
		})},
		{"tax", []string{"year", "resident", "amount"}, taxes(size, seed)},
		{"certificate", []string{"number", "resident", "kind"}, rows(size.Certificates(), func(i int) []any {
			r := random(seed, tableCertificate, i)
			return []any{int64(i), int64(1 + r.IntN(size.People)), certificates[r.IntN(len(certificates))]}
		})},
		{"issue_log", []string{"number", "clerk", "at"}, rows(size.Certificates(), func(i int) []any {
			r := random(seed, tableCertificate, i)
			return []any{int64(i), fmt.Sprintf("c%d", 1+r.IntN(3)), today.AddDate(0, 0, -r.IntN(365))}
		})},
	}
}

var certificates = [...]string{"住民票の写し", "住民票記載事項証明書", "印鑑登録証明書", "課税証明書"}

func taxes(size Size, seed uint64) iter.Seq[[]any] {
	return func(yield func([]any) bool) {
		for _, year := range slices.Sorted(maps.Keys(size.Tax)) {
			n := size.Tax[year]
			for k := range n {
				// Evenly spread over the residents, nobody twice: n ≤ People.
				who := 1 + k*size.People/n
				if !yield([]any{int32(year), int64(who), int32(1000 + random(seed, tableTax+year<<3, k).IntN(300000))}) {
					return
				}
			}
		}
	}
}
