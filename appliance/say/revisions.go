package say

// revisions: why a configuration wasn't put into use.
var revisions = map[string]row{
	"config-busy":         {"another commit is under way; nothing was changed: look at `show history`, then try again", "別の反映処理が進行中です。何も変更していません。`show history` を確認してから、もう一度実行してください"},
	"config-confirm-late": {"it is too late to confirm: the configuration before is being put back", "確認の期限を過ぎました。以前の設定に戻しています"},
	"config-confirm-time": {"the time to confirm is from 10 seconds to 24 hours: write minutes, such as 5, or seconds, such as 30s", "確認までの時間は 10 秒から 24 時間までです。分（例：5）または秒（例：30s）で指定してください"},
	"config-invalid":      {"the configuration has errors; nothing was changed:\n{0}", "設定に誤りがあります。何も変更していません：\n{0}"},
	"config-no-revision":  {"there is no revision {0}: look at `show history`", "リビジョン {0} はありません。`show history` を確認してください"},
	"config-none-waits":   {"nothing waits for a confirmation", "確認待ちの設定はありません"},
	"config-not-restored": {"the configuration failed: {=1+}; putting the one before back failed too: {0}; look at `show status`, then `rollback`", "設定を反映できません：{=1+}。以前の設定にも戻せません：{0}。`show status` を確認し、`rollback` を実行してください"},
	"config-restored":     {"the configuration failed and everything is as it was: {=0+}", "設定を反映できなかったため、元の状態に戻しました：{=0+}"},
	"config-stale":        {"revision {0}<, by {1},> runs now, yours was made from {2}; nothing was changed: compare, then make your change again", "現在はリビジョン {0}<（{1}）>が動作中ですが、この設定は {2} から作られています。何も変更していません。比較してから変更し直してください"},
	"config-waits":        {"revision {0} waits for a confirmation: `confirm` keeps it, `rollback` takes it back", "リビジョン {0} は確認待ちです。`confirm` で確定、`rollback` で取り消します"},
}
