package console

import (
	"testing"

	"komainu/appliance/control"
)

// TestShowPath: what a path carries is shown as far as it is known.
func TestShowPath(t *testing.T) {
	st := control.Status{Paths: []control.Path{
		{Name: "main", Peer: "dc-edge", State: "up", Carries: true, SinceS: 3700, RTTMs: 12.34, JitterMs: 0.72, Interface: "dc-main", Carrier: true,
			Width: &control.Width{Out: 990, In: 1438, Used: 990, BitPerS: 98.7e6}},
		{Name: "alt", Peer: "dc-edge", State: "up", SinceS: 5, RTTMs: 48, Loss: 0.05, Interface: "dc-alt", Carrier: true, Width: &control.Width{Out: 1280, Used: 1280, BitPerS: 384e3}},
		{Name: "third", Peer: "dc-edge", State: "down", SinceS: 5, Loss: 1, Interface: "dc-third", Width: &control.Width{}},
		{Name: "fixed", Peer: "dc-edge", State: "up", SinceS: 5, Interface: "dc-fixed", Carrier: true, Width: &control.Width{Used: 1300, Fixed: true, BitPerS: 2.5e9}},
		{Name: "plain", Peer: "dc-edge", State: "up", SinceS: 5, Interface: "wan", Carrier: true},
	}}
	for lang, want := range map[string]string{"en": pathsEnglish, "ja": pathsJapanese} {
		p := &page{Status: st, lang: lang}
		p.paths()
		if got := p.text(); got != want[1:] {
			t.Errorf("%s:\n%s", lang, got)
		}
	}
}

const pathsEnglish = `
path main         up; for 1 h 1 min; carries traffic
  peer            dc-edge
  round trip      12.3 ms
  jitter          0.7 ms
  loss            0.0 %
  largest packet  990 bytes; to there 990 bytes; from there 1438 bytes
  capacity        99 Mbit/s
  interface       dc-main: carrier
path alt          up; for 5 s
  peer            dc-edge
  round trip      48.0 ms
  jitter          0.0 ms
  loss            5.0 %
  largest packet  1280 bytes; to there 1280 bytes; from there not known yet
  capacity        384 kbit/s
  interface       dc-alt: carrier
path third        down; for 5 s
  peer            dc-edge
  largest packet  not known yet
  interface       dc-third: no carrier: check the cable
path fixed        up; for 5 s
  peer            dc-edge
  round trip      0.0 ms
  jitter          0.0 ms
  loss            0.0 %
  largest packet  1300 bytes; by the configuration
  capacity        2.5 Gbit/s
  interface       dc-fixed: carrier
path plain        up; for 5 s
  peer            dc-edge
  round trip      0.0 ms
  jitter          0.0 ms
  loss            0.0 %
  interface       wan: carrier
`

const pathsJapanese = `
経路 main           正常、1時間1分継続、使用中
  相手              dc-edge
  往復遅延          12.3 ms
  ゆらぎ            0.7 ms
  損失              0.0 %
  最大パケット      990 バイト、送信方向 990 バイト、受信方向 1438 バイト
  容量              99 Mbit/s
  インターフェース  dc-main：リンクあり
経路 alt            正常、5秒継続
  相手              dc-edge
  往復遅延          48.0 ms
  ゆらぎ            0.0 ms
  損失              5.0 %
  最大パケット      1280 バイト、送信方向 1280 バイト、受信方向 未測定
  容量              384 kbit/s
  インターフェース  dc-alt：リンクあり
経路 third          断、5秒継続
  相手              dc-edge
  最大パケット      未測定
  インターフェース  dc-third：リンク断：ケーブルを確認してください
経路 fixed          正常、5秒継続
  相手              dc-edge
  往復遅延          0.0 ms
  ゆらぎ            0.0 ms
  損失              0.0 %
  最大パケット      1300 バイト、設定値
  容量              2.5 Gbit/s
  インターフェース  dc-fixed：リンクあり
経路 plain          正常、5秒継続
  相手              dc-edge
  往復遅延          0.0 ms
  ゆらぎ            0.0 ms
  損失              0.0 %
  インターフェース  wan：リンクあり
`
