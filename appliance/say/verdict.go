package say

// verdict: whether the data centre can be used, and where the fault is.
var verdict = map[string]row{
	"verdict.boot":             {"just started, nothing heard yet", "起動直後のため未判定"},
	"verdict.db-host-silent":   {"the host of database {0} is silent", "データベース {0} のサーバーから応答がありません"},
	"verdict.db-host-unknown":  {"the host of database {0} can't tell its state yet", "データベース {0} のサーバーの状態が不明です"},
	"verdict.line-lost":        {"line down: {*}; the others carry", "回線断：{*}（他の回線で継続）"},
	"verdict.never-heard":      {"no heartbeat since the start on {*}, yet the service answers: check key and filters", "{*} のハートビートを一度も受信していません（サービスは応答あり）。鍵とフィルターを確認してください"},
	"verdict.no-answer":        {"no answer on any line: {*}", "全回線で応答なし：{*}"},
	"verdict.no-carrier":       {"no carrier on any line: {*}; check the cables", "全回線でリンク断：{*}（ケーブルを確認してください）"},
	"verdict.nothing-to-judge": {"nothing is configured that could tell", "判定に必要な設定がありません"},
	"verdict.own-box-stalled":  {"this box stood still a moment ago: no conclusion from silence", "本装置が一時停止したため判定を保留"},
	"verdict.own-lan":          {"our own LAN has no carrier", "庁内LANのリンク断"},
	"verdict.primary-down":     {"database {0} in the data centre: {role-=1}", "データセンターのデータベース {0}：{role-=1}"},
	"verdict.primary-fenced":   {"database {0} in the data centre is closed to clients", "データセンターのデータベース {0} は遮断中です"},
	"verdict.probe-failed":     {"service {0} doesn't answer in the data centre", "データセンターのサービス {0} が応答しません"},
	"verdict.probes-only":      {"heartbeats are off on purpose, the service answers", "ハートビート停止中（サービスは応答あり）"},
	"verdict.probes-pending":   {"service {0} answers again, not often enough yet", "サービス {0} の応答が回復中（回数不足）"},
	"verdict.usable":           {"heartbeats and probes are good", "ハートビート・監視とも正常"},
}
