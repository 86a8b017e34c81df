package say

// access: people who may log in, their passwords, secrets and the records of
// what was done.
var access = map[string]row{
	"audit-none":          {"nothing is recorded yet", "記録はまだありません"},
	"no-account":          {"{0} has no account", "{0} というアカウントはありません"},
	"no-password-place":   {"the configuration gives {0} no password: add password = \"secret:NAME\" to the [[user]]", "設定で {0} にパスワードが割り当てられていません。[[user]] に password = \"secret:名前\" を追加してください"},
	"nobody-to-ask":       {"this command asks for a secret: say it at a terminal, or pipe the secret in", "このコマンドは秘密情報の入力が必要です。端末で実行するか、パイプで渡してください"},
	"secret-deleted":      {"secret:{0} deleted", "secret:{0} を削除しました"},
	"secret-empty":        {"nothing was typed; secret:{0} is as before", "入力がありません。secret:{0} は変更していません"},
	"secret-in-use":       {"the configuration refers to secret:{0}; take it out there first. Nothing was deleted", "設定が secret:{0} を参照しています。先に設定から外してください。削除していません"},
	"secret-kept":         {"secret:{0} kept", "secret:{0} を保存しました"},
	"secret-missing":      {"there is no secret:{0}", "secret:{0} はありません"},
	"secret-name":         {"{0} can't name a secret: 1 to 64 letters, digits, dots, - and _", "{0} は秘密情報の名前にできません。英数字と . - _ で1～64文字にしてください"},
	"secret-none":         {"no secrets", "秘密情報はありません"},
	"usage-secret-delete": {"delete a secret that the configuration doesn't use", "設定で使っていない秘密情報を削除する"},
	"usage-secret-list":   {"names, sizes and times of the secrets, never their content", "秘密情報の名前、大きさ、日時を表示する（内容は表示しない）"},
	"usage-secret-set":    {"keep a secret, which is asked for", "秘密情報を入力して保存する"},
	"usage-show-audit":    {"the last N commands and logins: who, from where, what, how it ended", "直近N件の操作とログインの記録（誰が、どこから、何を、結果）を表示する"},
	"usage-show-users":    {"who is logged in, and who may", "ログイン中の人とアカウントを表示する"},
	"usage-user-password": {"set the own password, or as an administrator another's", "自分の（管理者は他人の）パスワードを設定する"},
	"users-inside":        {"logged in", "ログイン中"},
	"users-keys":          {"{0} keys", "鍵{0}個"},
	"users-may":           {"may log in", "ログインできる人"},
	"users-neither":       {"neither password nor key: can't log in", "パスワードも鍵もなくログイン不可"},
	"users-password":      {"password", "パスワード"},
	"users-since":         {"since {0}", "{0} から"},
}
