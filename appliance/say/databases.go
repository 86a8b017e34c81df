package say

// databases: roles of a cluster and the state of a standby.
var databases = map[string]row{
	"role-absent":          {"no data yet", "データなし"},
	"role-hung":            {"hung: it doesn't answer", "応答なし"},
	"role-primary":         {"primary, writable", "主系（更新可）"},
	"role-standby":         {"standby, reads possible", "待機系（参照可）"},
	"role-starting":        {"starting", "起動中"},
	"role-stopped":         {"stopped", "停止"},
	"role-unknown":         {"unknown", "不明"},
	"role-unusable":        {"must not start", "起動不可"},
	"standby-copying":      {"copying the database, {0} % done", "データベースを複写中（{0} %）"},
	"standby-disk-full":    {"its disk is full", "ディスクに空きがありません"},
	"standby-lag":          {"it is {0} behind", "{0} 遅れています"},
	"standby-no-upstream":  {"it isn't streaming from the primary", "主系からの受信が途絶えています"},
	"standby-overflowed":   {"a restart now would not open for reads: a transaction with many subtransactions is open", "今再起動すると参照できません（多数のサブトランザクションを含む処理が実行中）"},
	"standby-paused":       {"replay stands still: a setting was raised on the primary", "再生が停止しています（主系で設定値が引き上げられました）"},
	"standby-slot-lost":    {"the primary no longer keeps what it needs: it must be copied anew", "主系に必要なログが残っていません。再複写が必要です"},
	"standby-wrong-system": {"the data directory belongs to another database", "データ領域が別のデータベースのものです"},
}
