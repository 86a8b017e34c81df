package say

// advice: what keeps a group where it is, and what an operator can do. The
// command to type stands in it in full.
var advice = map[string]row{
	"advice-accept-orphans":   {"look at the list on the database host (STATE/returns), then: komainu return accept-orphans {0}< {1}>", "データベースサーバーの一覧（STATE/returns）を確認してから：komainu return accept-orphans {0}< {1}>"},
	"advice-accept-there":     {"at the town hall: komainu return accept-orphans {0}", "庁舎側で実行：komainu return accept-orphans {0}"},
	"advice-dc-return":        {"nothing here; the return is ordered at the town hall", "ここでの対応は不要です。切戻しは庁舎側で指示します"},
	"advice-hold-down":        {"wait, or skip the rest of the time: komainu service switch {0} dc", "そのままお待ちください。待たずに戻す場合：komainu service switch {0} dc"},
	"advice-none":             {"nothing to do", "対応は不要です"},
	"advice-open":             {"wait for the town hall; if it is gone and holds no higher term: komainu service open {0} --reason \"...\"", "庁舎側の応答をお待ちください。庁舎側が停止し、新しい世代を持たない場合のみ：komainu service open {0} --reason \"...\""},
	"advice-release":          {"when the work is over: komainu service release {0}", "作業が終わったら：komainu service release {0}"},
	"advice-repair-dc":        {"repair the line or the data centre; service goes on here meanwhile", "回線またはデータセンターを復旧してください（その間も庁舎側で継続します）"},
	"advice-repair-standby":   {"make the standby ready: komainu show database", "待機系を復旧してください：komainu show database"},
	"advice-switch-dc":        {"to go back to the data centre: komainu service switch {0} dc", "データセンターに戻す場合：komainu service switch {0} dc"},
	"advice-switch-local":     {"reads can be moved here: komainu service switch {0} local", "参照を庁舎側に切り替える場合：komainu service switch {0} local"},
	"advice-wait":             {"wait: it goes on by itself", "自動で進みます。お待ちください"},
	"advice-write":            {"reads work here. If writing can't wait until the data centre is back: komainu service write {0} --reason \"...\"", "参照は可能です。復旧を待てず更新が必要な場合：komainu service write {0} --reason \"...\""},
	"block-back-manual":       {"it waits for an order (back = \"manual\")", "指示待ちです（back = \"manual\"）"},
	"block-booted-fenced":     {"closed since its start: the town hall must tell its term first", "起動後は遮断中です（庁舎側の世代の確認待ち）"},
	"block-dc-silent":         {"the data centre's host of database {0} is silent", "データセンターのデータベース {0} のサーバーから応答がありません"},
	"block-down-manual":       {"moves wait for an order (down = \"manual\")", "切替は指示待ちです（down = \"manual\"）"},
	"block-fenced":            {"write authority is with the town hall, or may be (term {0})", "更新権限は庁舎側にあるか、移る可能性があります（世代 {0}）"},
	"block-hold":              {"an operator froze automatic moves", "運用者が自動切替を停止しています"},
	"block-hold-down":         {"the data centre must stay usable for {0} s more", "データセンターの安定をあと {0} 秒確認します"},
	"block-not-fenced":        {"database {0} in the data centre hasn't confirmed that it is closed", "データセンターのデータベース {0} の遮断を確認できません"},
	"block-orphans":           {"{0} commits exist only in the data centre: an operator must accept that they are set aside", "データセンターだけにある更新が {0} 件あります。除外の承認が必要です"},
	"block-pinned":            {"it stays here by order", "指示により庁舎側に維持しています"},
	"block-rejoining":         {"the data centre is being rebuilt as our standby: {=0}<, {1} %>", "データセンターを待機系として再構成中：{=0}<（{1} %）>"},
	"block-standby-not-ready": {"the standby of {0} isn't ready: {=1}", "{0} の待機系が準備未完了です：{=1}"},
}
