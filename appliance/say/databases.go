package say

// databases: roles of a cluster and the state of a standby.
var databases = map[string]row{
	"role-absent":               {"no data yet", "データなし"},
	"role-hung":                 {"hung: it doesn't answer", "応答なし"},
	"role-primary":              {"primary, writable", "主系（更新可）"},
	"role-standby":              {"standby, reads possible", "待機系（参照可）"},
	"role-starting":             {"starting", "起動中"},
	"role-stopped":              {"stopped", "停止"},
	"role-unknown":              {"unknown", "不明"},
	"role-unusable":             {"must not start", "起動不可"},
	"standby-absent":            {"there is no copy yet", "複製がまだありません"},
	"standby-copying":           {"copying the database, {0} % done", "データベースを複写中（{0} %）"},
	"standby-hung":              {"it doesn't answer", "応答がありません"},
	"standby-replay-paused":     {"replay stands still: a setting such as max_connections was raised on the primary; raise it here too and restart the standby", "再生が停止しています。主系で max_connections などが引き上げられました。同じ値にして再起動してください"},
	"standby-restart-not-ready": {"reads work, but a restart now would not open for reads: a transaction with many subtransactions is open on the primary", "参照できますが、今再起動すると参照できなくなります（主系で多数のサブトランザクションを実行中）"},
	"standby-starting":          {"it is starting", "起動中です"},
	"standby-stopped":           {"it is stopped", "停止しています"},
	"standby-unknown":           {"nothing is known of it yet", "状態が未確認です"},
	"standby-unusable":          {"its data must not be started", "データ領域を起動できません"},
}
