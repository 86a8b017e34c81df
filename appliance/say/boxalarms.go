package say

// boxAlarms: what the agent says of the machine and its image.
var boxAlarms = map[string]row{
	"box-data-lost":    {"there is no data partition: nothing is kept over a restart", "データ領域がありません（再起動で失われます）"},
	"box-fault":        {"fault of the box: {=0+}", "装置の異常：{=0+}"},
	"box-fault-over":   {"fault of the box over: {=0+}", "装置の異常解消：{=0+}"},
	"box-faulty":       {"the box has faults: see show box", "装置に異常があります（show boxで確認）"},
	"box-given-up":     {"version {0} failed and isn't tried again by itself<: {=1+}>", "版 {0} は失敗したため自動では再試行しません<：{=1+}>"},
	"box-image-failed": {"a new image failed: see image list", "新イメージが失敗しました（image listで確認）"},
	"box-news-unkept":  {"what was told of the box can't be kept, so it is told again after a restart: {0}", "装置の通知済み記録を保存できません（再起動後に再通知）：{0}"},
	"box-panicked":     {"the kernel or PID 1 panicked: see show box", "異常停止（パニック）がありました（show boxで確認）"},
	"box-silent":       {"the supervisor of the box doesn't answer", "装置の監視プロセスが応答しません"},
	"box-started":      {"version {0} started<; the run before: {=1}><: {=2+}>", "版 {0} が起動<（前回の停止：{=1}）><：{=2+}>"},
	"box-trial-begun":  {"version {0} is on trial", "版 {0} の試行を開始"},
	"box-trial-long":   {"the trial of the image doesn't end: see show box", "イメージの試行が終わりません（show boxで確認）"},
	"box-was-reset":    {"the watchdog reset the box: see show box", "ウォッチドッグが装置をリセットしました（show boxで確認）"},
	"status-data-none": {"none: nothing is kept over a restart. See show box; replace the disk or install the box again", "なし（再起動で失われます）。show boxで原因を確認し、ディスク交換または再導入してください"},
	"status-given-up":  {"version {0} failed<: {=1+}>. Install a newer one, or this one again with --again yes", "版 {0} が失敗<：{=1+}>。新しい版を導入するか、--again yes で再導入してください"},
	"status-trial":     {"version {0} is on trial, given up in {1} unless all works again. See show box, or image accept", "版 {0} を試行中。復旧しなければ{1}後に取消し。show boxで確認、またはimage acceptで承認"},
}
