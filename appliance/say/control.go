package say

// control: answers of the local socket.
var control = map[string]row{
	"access-refused":    {"user {0} may not do this; role {1} is needed", "利用者 {0} には権限がありません（必要な役割：{1}）"},
	"agent-stopping":    {"the agent is stopping; ask again after its start", "エージェントは停止処理中です。起動後に再度実行してください"},
	"agent-unreachable": {"the agent doesn't answer: {0}; is it running?", "エージェントが応答しません：{0}（稼働を確認してください）"},
	"bad-answer":        {"the agent's answer can't be read: {0}", "エージェントの応答を解釈できません：{0}"},
	"bad-request":       {"the request can't be read: {0}", "要求を解釈できません：{0}"},
	"internal":          {"it failed: {0}", "処理に失敗しました：{0}"},
	"not-found":         {"the agent knows no {0} (another version?)", "エージェントに {0} はありません（版の違いの可能性）"},
	"role-admin":        {"administrator", "管理者"},
	"role-field":        {"field engineer", "現地作業員"},
	"role-none":         {"none", "なし"},
	"role-operator":     {"operator", "運用者"},
	"role-viewer":       {"viewer", "閲覧者"},
	"shutting-down":     {"it is shutting down; ask again after its start", "停止処理中です。起動後に再度実行してください"},
	"socket-held":       {"held by another agent, pid {0}: stop that one first, or use another folder", "別のエージェント（PID {0}）が使用中です。停止するか別のフォルダーを使用してください"},
}
