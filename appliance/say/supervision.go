package say

// supervision: daemons and their supervisor.
var supervision = map[string]row{
	"supervisor-held":  {"another supervisor, pid {0}, runs here: stop it first", "別の監視プロセス（PID {0}）が稼働中です。先に停止してください"},
	"unit-bad":         {"the definition is refused: {0}", "定義に誤りがあります：{0}"},
	"unit-differs":     {"it already runs with another definition: stop it first", "別の定義で稼働中です。先に停止してください"},
	"unit-failed":      {"it can't be started: {0}", "起動できません：{0}"},
	"unit-not-stopped": {"it is still there after SIGKILL, pid {0}: its disk or device hangs", "SIGKILL後も終了しません（PID {0}）。ディスクまたは機器の応答がありません"},
	"unit-stopped":     {"it doesn't run", "稼働していません"},
	"unit-unknown":     {"no unit of this name", "この名前のユニットはありません"},
}
