package say

// line: what a path through a tunnel carries.
var line = map[string]row{
	"label-capacity":       {"capacity", "容量"},
	"label-largest-packet": {"largest packet", "最大パケット"},
	"mtu-below-minimum":    {"this path carries less than IPv6 asks for (1280 bytes): TCP is told so, larger IPv6 datagrams are lost there. Ask the provider", "この経路は IPv6 に必要な 1280 バイトを通せません。TCP には通知しますが、それより大きい IPv6 データグラムは失われます。回線事業者に確認してください"},
	"mtu-unanswered":       {"the other side doesn't answer when it is asked what this path carries (UDP port 4796): packets are as large as the line allows", "相手側が経路 MTU の問い合わせ（UDP 4796）に応答しません。回線上限の大きさで送信しています"},
	"path-mtu-found":       {"the path carries packets of {0} bytes (found with {1} probes in {2})", "この経路で通過できる最大パケットは {0} バイトです（プローブ {1} 回、{2}）"},
	"width-bytes":          {"{0} bytes", "{0} バイト"},
	"width-fixed":          {"by the configuration", "設定値"},
	"width-in":             {"from there {0}", "受信方向 {0}"},
	"width-out":            {"to there {0}", "送信方向 {0}"},
	"width-unknown":        {"not known yet", "未測定"},
}
