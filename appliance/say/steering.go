package say

// steering: modes of a group, sides, and where clients go.
var steering = map[string]row{
	"locked-endpoint":  {"service {0} is served by the data centre; this standby copy in the town hall is locked in normal operation: connect to {1}, the stable address of {0}, not to this server", "サービス {0} はデータセンターで稼働中です。この庁舎側の複製は通常時ロックされています。このサーバーではなく {0} の固定アドレス {1} に接続してください"},
	"mode-dc":          {"data centre", "データセンター利用"},
	"mode-local-read":  {"local, reads only", "庁舎側（参照のみ）"},
	"mode-local-write": {"local, reads and writes", "庁舎側（参照・更新）"},
	"mode-returning":   {"returning to the data centre", "データセンターへ切戻し中"},
	"owner-dc":         {"data centre", "データセンター"},
	"owner-none":       {"nobody", "なし"},
	"owner-town-hall":  {"town hall", "庁舎"},
	"target-dc":        {"data centre", "データセンター"},
	"target-local":     {"this box", "本装置"},
	"target-none":      {"nowhere (refused)", "なし（拒否）"},
	"target-parked":    {"waiting (hand-over)", "待機（切替中）"},
}
