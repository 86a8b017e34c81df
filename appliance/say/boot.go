package say

// boot: what PID 1 met on its way up.
var boot = map[string]row{
	"boot-clock-behind":    {"the hardware clock said {0}; the time goes on from {1}: see show ntp, and replace the battery if it comes again", "内蔵時計が {0} を示していたため、{1} から再開しました。show ntp を確認してください。再発時は電池を交換してください"},
	"boot-data-damaged":    {"the data partition {0} can't be repaired, nothing is kept: save what is on it, then install anew", "データ領域 {0} は修復できず、設定は保存されません。内容を退避してから再インストールしてください"},
	"boot-data-failed":     {"the data partition of {0} can't be used, nothing is kept: {1}", "{0} のデータ領域を使用できず、設定は保存されません：{1}"},
	"boot-data-foreign":    {"the data partition {0} holds something else ({1}) and was left alone, nothing is kept: save it, then install anew", "データ領域 {0} に別の内容（{1}）があるため変更していません。設定は保存されません。退避してから再インストールしてください"},
	"boot-data-full":       {"the data partition {0} is full: delete old logs or copies", "データ領域 {0} の空きがありません。古いログや複写を削除してください"},
	"boot-data-repaired":   {"the data partition {0} was damaged and has been repaired: compare the configuration, and look into lost+found", "データ領域 {0} の破損を修復しました。設定内容と lost+found を確認してください"},
	"boot-disk-read-only":  {"the disk {0} is write-protected, nothing is kept: take the protection away and restart", "ディスク {0} は書込み禁止のため、設定は保存されません。解除して再起動してください"},
	"boot-disk-unreadable": {"the disk {0} can't be read: {1}", "ディスク {0} を読み取れません：{1}"},
	"boot-esp-damaged":     {"the EFI partition {0} is damaged and could not be repaired (fsck.fat: {1}): install the image anew", "EFI領域 {0} が破損し、修復できません（fsck.fat：{1}）。イメージを再インストールしてください"},
	"boot-esp-not-mounted": {"the EFI partition {0} can't be mounted, so no update is possible: {1}", "EFI領域 {0} をマウントできず、更新できません：{1}"},
	"boot-making-data":     {"first start: making the data partition on {0}", "初回起動：{0} にデータ領域を作成しています"},
	"boot-no-disk":         {"the disk that this box runs from was not found, nothing is kept: check it and restart", "起動元のディスクが見つからず、設定は保存されません。ディスクを確認して再起動してください"},
	"boot-no-room":         {"no room for a data partition on {0}, nothing is kept: install to a disk, or use a larger one", "{0} にデータ領域の空きがなく、設定は保存されません。ディスクにインストールするか、より大きいものを使用してください"},
	"boot-repairing-data":  {"the data partition {0} is damaged: repairing it, which can take minutes; do not switch off", "データ領域 {0} が破損しています。修復中です（数分かかることがあります）。電源を切らないでください"},
	"boot-rescue":          {"rescue: the data partition is left alone, nothing is kept", "レスキュー起動：データ領域は変更せず、設定は保存されません"},
	"boot-step-failed":     {"start-up step {0} failed: {1}", "起動処理 {0} に失敗しました：{1}"},
	"boot-tool-runs":       {"still running: {0}", "実行中：{0}"},
	"boot-two-disks":       {"several disks hold the appliance ({0}), {1} is used and nothing is made on it: take the others out and restart", "本製品のディスクが複数あります（{0}）。{1} を使用し、新規作成は行いません。他を外して再起動してください"},
	"boot-wait-disk":       {"waiting for the disk", "ディスクを待っています"},
}
