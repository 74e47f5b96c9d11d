"""The messages of audit rows, in English and in Japanese."""

MESSAGES: dict[str, tuple[str, str, str]] = {
    # action: (target type, English, Japanese)
    "device_activated": (
        "device",
        "First handshake at {at}: activated",
        "{at} に初回ハンドシェイクを確認し、有効化しました",
    ),
    "qr_expired": (
        "device",
        "QR code ended at {at} without a handshake: expired",
        "QRコードが {at} に未使用のまま失効しました",
    ),
    "peer_added": (
        "device",
        "Peer added on {interface} with {address}",
        "{interface} にピアを追加しました({address})",
    ),
    "peer_removed": (
        "device",
        "Peer removed from {interface} ({address}): {reason}",
        "{interface} からピアを削除しました({address}): {reason}",
    ),
    "peer_updated": (
        "device",
        "Peer updated on {interface}: {updated}",
        "{interface} のピアを更新しました: {updated}",
    ),
    "peer_moved": (
        "device",
        "Peer moved from {previous_interface} to {interface} ({address})",
        "ピアを {previous_interface} から {interface} へ移動しました({address})",
    ),
    "foreign_peer_removed": (
        "interface",
        "Peer {peer} ({address}), which no row names, removed from {interface}",
        "台帳にないピア {peer}({address})を {interface} から削除しました",
    ),
    "row_rejected": (
        "device",
        "Row is rejected ({rejection}). Its live peer, if any, stays as it is",
        "この行は適用できません({rejection})。稼働中のピアがあれば現状のまま維持します",
    ),
    "row_accepted": (
        "device",
        "Row is no longer rejected: mended, or it wants no peer any more (was {rejection})",
        "この行の適用不可状態は解消しました(修正済み、またはピア不要。以前: {rejection})",
    ),
    "parent_conflict": (
        "contract",
        "{detail} parent devices in one contract",
        "1契約に親端末が {detail} 台あります",
    ),
    "parent_conflict_cleared": (
        "contract",
        "No longer several parent devices",
        "親端末の重複は解消しました",
    ),
    "unknown_profile": (
        "contract",
        "The configuration has no bandwidth profile {detail}: the default one holds",
        "帯域プロファイル {detail} は設定にないため、既定のものを適用します",
    ),
    "unknown_profile_cleared": (
        "contract",
        "The bandwidth profile is known now (was {detail})",
        "帯域プロファイルの不明な状態は解消しました(以前: {detail})",
    ),
    "cap_reached": (
        "contract",
        "Monthly cap reached: the rates of {detail} hold until the month ends",
        "月間上限に達しました。月末まで {detail} の速度になります",
    ),
    "cap_ended": (
        "contract",
        "Monthly cap no longer reached: the rates of {detail} do not hold any more",
        "月間上限による {detail} への制限は終了しました",
    ),
    "devices_over_limit": (
        "contract",
        "The contract has more devices than max_devices: {detail}",
        "端末数が max_devices を超えています: {detail}",
    ),
    "devices_over_limit_cleared": (
        "contract",
        "The contract has no more devices than max_devices (was {detail})",
        "端末数は max_devices 以内に戻りました(以前: {detail})",
    ),
    "guard_tripped": (
        "node",
        "Nothing was removed: {count} removals wait. A mistake? See wgsyncd plan. Meant? wgsyncd approve {plan}",
        "何も削除していません({count} 件の削除を保留)。誤り (mistake) なら、元に戻す方法は wgsyncd plan が示します。"
        "意図した削除なら wgsyncd approve {plan} で承認してください",
    ),
    "guard_approved": (
        "node",
        "{count} withheld removals (plan {plan}) approved by {by}",
        "保留中の削除 {count} 件(プラン {plan})が {by} により承認されました",
    ),
    "interface_restored": (
        "interface",
        "Interface is new: {count} peers restored",
        "インターフェースが新しくなり、ピア {count} 件を復元しました",
    ),
    "interface_missing": (
        "interface",
        "Interface is missing: its peers are without service",
        "インターフェースが見つかりません。ピアは接続できません",
    ),
    "usage_anomaly": (
        "device",
        "Counters on {interface} {anomaly}: rx {previous.rx} -> {current.rx}, tx {previous.tx} -> {current.tx} bytes",
        "{interface} のカウンタ異常({anomaly}): "
        "rx {previous.rx} -> {current.rx}、tx {previous.tx} -> {current.tx} バイト",
    ),
    "spool_corrupt": (
        "node",
        "The spool was damaged and is now {file}: the bytes in it are not posted",
        "未計上サンプルの保存ファイルが読めないため {file} として退避しました。その分の通信量は計上されていません",
    ),
    "quarantine_released": (
        "device",
        "Quarantined traffic of {interface} posted by an admin: "
        "rx {current.rx}, tx {current.tx} bytes, {since} to {until}",
        "{interface} で保留していた通信量を管理者が計上しました: "
        "rx {current.rx}、tx {current.tx} バイト({since}から{until})",
    ),
    "quarantine_dropped": (
        "device",
        "Quarantined traffic of {interface} dropped by an admin, not posted: "
        "rx {current.rx}, tx {current.tx} bytes, {since} to {until}",
        "{interface} で保留していた通信量を管理者が破棄しました(計上なし): "
        "rx {current.rx}、tx {current.tx} バイト({since}から{until})",
    ),
    "config_reloaded": ("node", "Configuration reloaded", "設定を再読み込みしました"),
    "config_rejected": (
        "node",
        "New configuration has {count} faults, the old one goes on: {keys}",
        "新しい設定に {count} 件の誤りがあります。旧設定のまま継続します: {keys}",
    ),
    "daemon_started": ("node", "wgsyncd {version} started", "wgsyncd {version} が起動しました"),
    "daemon_stopped": ("node", "wgsyncd stopped. Peers stay in place", "wgsyncd が停止しました。ピアは維持されます"),
    "node_taken_over": (
        "node",
        "Host {host} runs this node now, taken over from host {previous_host}: {takeover}",
        "ホスト {host} がこのノードをホスト {previous_host} から引き継ぎました({takeover})",
    ),
    "node_renamed": (
        "node",
        "Node {previous_node} has this name now: its records go on",
        "ノード {previous_node} の名前が変更されました。記録は引き継がれます",
    ),
    "node_went_back": (
        "node",
        "The database lost commits of this node. Bytes since then are posted again",
        "データベースからこのノードのコミットが失われました。それ以降の通信量は再計上されます",
    ),
    "node_adopted": (
        "node",
        "{by} adopted this node: wgsyncd removes peers that no row names",
        "{by} がこのノードの管理を承認しました。台帳にないピアは削除されます",
    ),
    "adoption_undone": (
        "node",
        "{by} undid the adoption: peers that no row names stay",
        "{by} が管理の承認を取り消しました。台帳にないピアは維持されます",
    ),
    "access_changed": (
        "node",
        "Access changed: {gained} devices gained it, {lost} lost all of it, {changed} have another one",
        "アクセス権を変更しました。追加 {gained} 台、全喪失 {lost} 台、変更 {changed} 台",
    ),
    "ruleset_restored": (
        "node",
        "Program {program} had changed the packet filter: put right, {count} addresses",
        "{program} が変更したパケットフィルターを元に戻しました (アドレス {count} 件)",
    ),
    "policies_off": (
        "node",
        "Policies are not enforced any more: the packet filter has no table of wgsyncd",
        "ポリシーの適用を停止しました。パケットフィルターのテーブルは削除されました",
    ),
    "node_active": (
        "node",
        "This node has {address} now: it is active",
        "このノードに {address} が割り当てられ、稼働系になりました",
    ),
    "node_standby": (
        "node",
        "This node does not have {address} any more: it is standby",
        "このノードは {address} を持たなくなり、待機系になりました",
    ),
    "bandwidth_changed": (
        "contract",
        "Bandwidth profile {profile} holds now, instead of {previous_profile}: {bandwidth}",
        "帯域プロファイルが {previous_profile} から {profile} に変わりました({bandwidth})",
    ),
    "bandwidths_changed": (
        "node",
        "The bandwidth of {count} contracts changed at once",
        "{count} 件の契約の帯域が一度に変わりました",
    ),
    "shaping_started": ("node", "Bandwidth is limited from now on", "帯域制限を開始しました"),
    "shaping_stopped": (
        "node",
        "Bandwidth is not limited any more: what wgsyncd had made in tc is removed",
        "帯域制限を停止しました。wgsyncd が tc に作成したものは削除されました",
    ),
    "shaping_failed": (
        "node",
        "Bandwidth is not limited for everybody ({detail}): see wgsyncd status",
        "帯域制限が一部または全部に適用されていません({detail})。wgsyncd status で確認してください",
    ),
    "shaping_restored": (
        "node",
        "Bandwidth is limited as it should be again (was {detail})",
        "帯域制限は正常に戻りました(以前: {detail})",
    ),
}
