package say

// probes: why a question to a service failed.
var probes = map[string]row{
	"cancelled":   {"no answer until it was called off", "応答待ちを中止"},
	"protocol":    {"it answers, but not in its protocol", "プロトコルの異なる応答"},
	"refused":     {"connection refused", "接続拒否"},
	"reset":       {"connection reset", "接続リセット"},
	"timeout":     {"no answer in time", "時間内に応答なし"},
	"tls":         {"TLS failed: check certificate and authority", "TLSエラー（証明書と認証局を確認してください）"},
	"unreachable": {"no route", "到達不可"},
}
