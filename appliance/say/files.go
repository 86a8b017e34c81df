package say

// files: state on disk, locks and secrets.
var files = map[string]row{
	"disk-full":     {"no space left for {0}: free some", "{0} の空き容量がありません。不要なファイルを削除してください"},
	"file-unread":   {"{0} can't be read: {1}", "{0} を読み込めません：{1}"},
	"file-version":  {"{0} has format {1}, this program reads {2}", "{0} の形式は {1} です（このプログラムは {2} に対応）"},
	"file-written":  {"{0} can't be written: {1}", "{0} に書き込めません：{1}"},
	"lock-held":     {"{0} is in use by another process, pid {1}", "{0} は別のプロセス（PID {1}）が使用中です"},
	"secret-absent": {"secret {0} is not there: put it into {1} with mode 0600", "秘密情報 {0} がありません。{1} にモード 0600 で置いてください"},
	"secret-mode":   {"secret {0} has mode {1}, others could read it: chmod 0600", "秘密情報 {0} のモードが {1} です。chmod 0600 を実行してください"},
	"secret-ref":    {"{0} is no reference of the form secret:NAME", "{0} は secret:名前 の形式ではありません"},
}
