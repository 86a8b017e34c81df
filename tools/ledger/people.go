package ledger

import (
	"fmt"
	"math/rand/v2"
	"time"
)

// Size is how much a generated town holds.
type Size struct {
	People int
	Rows   int // of the register, history included; at least People
	Tax    map[int]int
}

// Full is the town of the trial (APR-2): residents, register rows with history,
// inhabitant tax rows by year.
func Full() Size {
	return Size{People: 55093, Rows: 423167, Tax: map[int]int{
		2004: 43710, 2005: 43175, 2006: 43958, 2007: 48805, 2008: 46798, 2009: 51489, 2010: 48018,
	}}
}

// Small is a fiftieth of Full, for tests.
func Small() Size {
	f := Full()
	s := Size{People: f.People / 50, Rows: f.Rows / 50, Tax: map[int]int{}}
	for year, n := range f.Tax {
		s.Tax[year] = n / 50
	}
	return s
}

// Households is how many there are: 2.4 people each.
func (s Size) Households() int { return (s.People*10 + 23) / 24 }

// Certificates is how many were issued before the first clerk came.
func (s Size) Certificates() int { return s.People / 4 }

// TaxRows is the sum over the years.
func (s Size) TaxRows() int {
	sum := 0
	for _, n := range s.Tax {
		sum += n
	}
	return sum
}

// Resident is one person of the generated town.
type Resident struct {
	ID        int64 // from 1
	Household int64
	Name      string
	Kana      string // as clerks search it
	Birth     time.Time
	Sex       string
}

// today is the day of the generated town, so that data do not depend on the
// day of the run.
var today = time.Date(2011, 4, 1, 0, 0, 0, 0, time.UTC)

type name struct{ kanji, kana string }

var families = [...]name{
	{"佐藤", "サトウ"}, {"鈴木", "スズキ"}, {"高橋", "タカハシ"}, {"田中", "タナカ"}, {"伊藤", "イトウ"},
	{"渡辺", "ワタナベ"}, {"山本", "ヤマモト"}, {"中村", "ナカムラ"}, {"小林", "コバヤシ"}, {"加藤", "カトウ"},
	{"吉田", "ヨシダ"}, {"山田", "ヤマダ"}, {"佐々木", "ササキ"}, {"山口", "ヤマグチ"}, {"松本", "マツモト"},
	{"井上", "イノウエ"}, {"木村", "キムラ"}, {"林", "ハヤシ"}, {"斎藤", "サイトウ"}, {"清水", "シミズ"},
	{"山崎", "ヤマザキ"}, {"森", "モリ"}, {"池田", "イケダ"}, {"橋本", "ハシモト"}, {"阿部", "アベ"},
	{"石川", "イシカワ"}, {"前田", "マエダ"}, {"藤田", "フジタ"}, {"後藤", "ゴトウ"}, {"長谷川", "ハセガワ"},
	{"黒木", "クロキ"}, {"甲斐", "カイ"}, {"河野", "カワノ"}, {"日高", "ヒダカ"}, {"児玉", "コダマ"},
}

var given = [2][16]name{
	{
		{"太郎", "タロウ"}, {"一郎", "イチロウ"}, {"健", "ケン"}, {"誠", "マコト"}, {"翔", "ショウ"}, {"大輔", "ダイスケ"},
		{"浩", "ヒロシ"}, {"隆", "タカシ"}, {"清", "キヨシ"}, {"茂", "シゲル"}, {"学", "マナブ"}, {"拓也", "タクヤ"},
		{"蓮", "レン"}, {"勇", "イサム"}, {"正", "タダシ"}, {"実", "ミノル"},
	},
	{
		{"花子", "ハナコ"}, {"陽子", "ヨウコ"}, {"恵子", "ケイコ"}, {"美咲", "ミサキ"}, {"葵", "アオイ"}, {"幸子", "サチコ"},
		{"和子", "カズコ"}, {"愛", "アイ"}, {"由美", "ユミ"}, {"節子", "セツコ"}, {"千代", "チヨ"}, {"結衣", "ユイ"},
		{"真由美", "マユミ"}, {"久美子", "クミコ"}, {"文", "フミ"}, {"光", "ヒカリ"},
	},
}

// random gives the numbers for row i of a table: every row can be made on its
// own, so that a clerk knows whom to search for without asking the database.
func random(seed uint64, table, i int) *rand.Rand {
	return rand.New(rand.NewPCG(seed<<8|uint64(table), uint64(i)))
}

// The tables as random knows them.
const (
	tableHousehold = iota
	tableResident
	tableRegister
	tableTax
	tableCertificate
	tableAnnex
)

// Person is resident i (from 1 to People) of the town generated from seed.
func (s Size) Person(seed uint64, i int) Resident {
	r := random(seed, tableResident, i)
	home := 1 + (i-1)*s.Households()/s.People
	family := families[random(seed, tableHousehold, home).IntN(len(families))]
	sex := r.IntN(2)
	g := given[sex][r.IntN(len(given[sex]))]
	return Resident{
		ID: int64(i), Household: int64(home),
		Name: family.kanji + " " + g.kanji, Kana: family.kana + " " + g.kana,
		Birth: today.AddDate(0, 0, -r.IntN(95*365)), Sex: [...]string{"男", "女"}[sex],
	}
}

func address(r *rand.Rand) string {
	towns := [...]string{"本町", "南町", "北浜", "日知屋", "財光寺", "塩見", "平岩", "美々津"}
	return fmt.Sprintf("日向町%s%d丁目%d番%d号", towns[r.IntN(len(towns))], 1+r.IntN(5), 1+r.IntN(40), 1+r.IntN(30))
}
