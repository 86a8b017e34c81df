package say

// paths: states of a path (RFC 5880) and places of a fault.
var paths = map[string]row{
	"carrier-down":     {"no carrier: check the cable", "リンク断：ケーブルを確認してください"},
	"carrier-up":       {"carrier", "リンクあり"},
	"place-dc-edge":    {"the data centre's edge", "データセンター側装置"},
	"place-dc-service": {"the service in the data centre", "データセンター内のサービス"},
	"place-line":       {"the line", "回線"},
	"place-none":       {"no fault", "異常なし"},
	"place-own-box":    {"this box", "本装置"},
	"place-own-lan":    {"our own LAN", "庁内LAN"},
	"state-admin-down": {"taken down on purpose", "意図的に停止中"},
	"state-down":       {"down", "断"},
	"state-init":       {"coming up", "確立中"},
	"state-up":         {"up", "正常"},
}
