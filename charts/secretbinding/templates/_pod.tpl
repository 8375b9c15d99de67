{{/* What the controller's container is given: variables, mounts, and the volumes behind them. */}}

{{/* One variable, where there is something to say: dict "name" "" "value" any. A list is joined by commas. */}}
{{- define "secretbinding.env" -}}
{{- $value := .value -}}
{{- if kindIs "slice" $value -}}{{- $value = join (default "," .joined) $value -}}{{- end -}}
{{- /* Helm keeps numbers as float64, and would write a large one as 1e+06. */ -}}
{{- if kindIs "float64" $value -}}{{- if eq $value (floor $value) -}}{{- $value = int64 $value -}}{{- end -}}{{- end -}}
{{- if not (or (kindIs "invalid" $value) (eq (toString $value) "")) }}
- name: {{ .name }}
  value: {{ toString $value | quote }}
{{- end }}
{{- end -}}

{{/* dict "env" "VAULT" "name" "vault" "tls" dict */}}
{{- define "secretbinding.tlsEnv" -}}
{{- $folder := printf "/etc/secretbinding/%s-" .name -}}
{{- if .tls.caKey -}}
{{- if .tls.existingConfigMap -}}
{{- include "secretbinding.env" (dict "name" (printf "%s_CACERT" .env) "value" (printf "%sca/%s" $folder .tls.caKey)) -}}
{{- else if .tls.existingSecret -}}
{{- include "secretbinding.env" (dict "name" (printf "%s_CACERT" .env) "value" (printf "%stls/%s" $folder .tls.caKey)) -}}
{{- end -}}
{{- end -}}
{{- if .tls.client -}}
{{- include "secretbinding.env" (dict "name" (printf "%s_CLIENT_CERT" .env) "value" (printf "%stls/%s" $folder .tls.certKey)) -}}
{{- include "secretbinding.env" (dict "name" (printf "%s_CLIENT_KEY" .env) "value" (printf "%stls/%s" $folder .tls.keyKey)) -}}
{{- end -}}
{{- include "secretbinding.env" (dict "name" (printf "%s_TLS_SERVER_NAME" .env) "value" .tls.serverName) -}}
{{- end -}}

{{/* All that is mounted read-only, by name: where, and the volume's source. As a map, for mounts and volumes alike. */}}
{{- define "secretbinding.mounted" -}}
{{- $values := .Values -}}
{{- $login := $values.vault.login -}}
{{- $found := dict -}}
{{- if include "secretbinding.mountsToken" . -}}
{{- $token := dict "serviceAccountToken" (dict "path" "token" "expirationSeconds" 3600) -}}
{{- $root := dict "configMap" (dict "name" "kube-root-ca.crt" "items" (list (dict "key" "ca.crt" "path" "ca.crt"))) -}}
{{- $own := dict "downwardAPI" (dict "items" (list (dict "path" "namespace" "fieldRef" (dict "fieldPath" "metadata.namespace")))) -}}
{{- $_ := set $found "api-token" (dict "at" "/var/run/secrets/kubernetes.io/serviceaccount" "from" (dict "projected" (dict "defaultMode" 0440 "sources" (list $token $root $own)))) -}}
{{- end -}}
{{- if has $login.method (list "kubernetes" "jwt") -}}
{{- $token := dict "path" "token" "expirationSeconds" $login.tokenSeconds -}}
{{- with $login.audience -}}{{- $_ := set $token "audience" . -}}{{- end -}}
{{- $_ := set $found "vault-token" (dict "at" "/var/run/secrets/secretbinding/vault" "from" (dict "projected" (dict "defaultMode" 0440 "sources" (list (dict "serviceAccountToken" $token))))) -}}
{{- end -}}
{{- $secrets := dict "nomad" $values.nomad.existingSecret "consul" $values.consul.existingSecret "agent-ca-secret" $values.agent.ca.existingSecret -}}
{{- $maps := dict "agent-ca" $values.agent.ca.existingConfigMap -}}
{{- if has $login.method (list "token" "approle") -}}{{- $_ := set $secrets "vault-login" $login.existingSecret -}}{{- end -}}
{{- range $name, $tls := dict "vault" $values.vault.tls "nomad" $values.nomad.tls "consul" $values.consul.tls -}}
{{- $_ := set $secrets (printf "%s-tls" $name) $tls.existingSecret -}}
{{- $_ := set $maps (printf "%s-ca" $name) $tls.existingConfigMap -}}
{{- end -}}
{{- if include "secretbinding.webhooks" . -}}{{- $_ := set $secrets "webhook" (include "secretbinding.webhookSecret" .) -}}{{- end -}}
{{- if $values.nacp.enabled -}}{{- $_ := set $secrets "nacp" $values.nacp.existingSecret -}}{{- end -}}
{{- if include "secretbinding.mountedPolicies" . -}}{{- $_ := set $maps "policies" (printf "%s-policies" (include "secretbinding.fullname" .)) -}}{{- end -}}
{{- if $values.connections -}}{{- $_ := set $maps "connections" (printf "%s-connections" (include "secretbinding.fullname" .)) -}}{{- end -}}
{{- range $index, $secret := $values.mounts.secrets -}}
{{- $_ := set $found (printf "mounted-secret-%d" $index) (dict "at" (printf "/etc/secretbinding/mounted/%s" $secret) "from" (dict "secret" (dict "secretName" $secret "defaultMode" 0440))) -}}
{{- end -}}
{{- range $index, $map := $values.mounts.configMaps -}}
{{- $_ := set $found (printf "mounted-map-%d" $index) (dict "at" (printf "/etc/secretbinding/mounted/%s" $map) "from" (dict "configMap" (dict "name" $map "defaultMode" 0444))) -}}
{{- end -}}
{{- range $name, $secret := $secrets -}}
{{- if $secret -}}
{{- $_ := set $found $name (dict "at" (printf "/etc/secretbinding/%s" $name) "from" (dict "secret" (dict "secretName" $secret "defaultMode" 0440))) -}}
{{- end -}}
{{- end -}}
{{- range $name, $map := $maps -}}
{{- if $map -}}
{{- $_ := set $found $name (dict "at" (printf "/etc/secretbinding/%s" $name) "from" (dict "configMap" (dict "name" $map "defaultMode" 0444))) -}}
{{- end -}}
{{- end -}}
{{- toYaml $found -}}
{{- end -}}

{{- define "secretbinding.environment" -}}
{{- $values := .Values -}}
{{- $login := $values.vault.login -}}
{{- $all := list
  (list "VAULT_ADDR" $values.vault.address)
  (list "VAULT_NAMESPACE" $values.vault.namespace)
  (list "VAULT_SKIP_VERIFY" ($values.vault.tls.skipVerify | ternary true nil))
  (list "SECRETBINDING_JWT_MOUNT" $values.vault.jwtMount)
  (list "SECRETBINDING_VAULT_LOGIN" $login.method) -}}
{{- if ne $login.method "token" -}}
{{- $all = concat $all (list
  (list "SECRETBINDING_VAULT_LOGIN_MOUNT" $login.mount)
  (list "SECRETBINDING_VAULT_LOGIN_ROLE" $login.role)
  (list "SECRETBINDING_VAULT_LOGIN_NAMESPACE" $login.namespace)) -}}
{{- end -}}
{{- if has $login.method (list "kubernetes" "jwt") -}}
{{- $all = append $all (list "SECRETBINDING_VAULT_LOGIN_JWT_FILE" "/var/run/secrets/secretbinding/vault/token") -}}
{{- else if eq $login.method "token" -}}
{{- $all = append $all (list "VAULT_TOKEN_FILE" (printf "/etc/secretbinding/vault-login/%s" $login.tokenKey)) -}}
{{- else if eq $login.method "approle" -}}
{{- $all = concat $all (list
  (list "SECRETBINDING_VAULT_LOGIN_ROLE_ID_FILE" (printf "/etc/secretbinding/vault-login/%s" $login.roleIdKey))
  (list "SECRETBINDING_VAULT_LOGIN_SECRET_ID_FILE" (printf "/etc/secretbinding/vault-login/%s" $login.secretIdKey))
  (list "SECRETBINDING_VAULT_LOGIN_SECRET_ID_WRAPPED" ($login.secretIdWrapped | ternary true nil))) -}}
{{- end -}}
{{- $all = concat $all (list
  (list "NOMAD_ADDR" $values.nomad.address)
  (list "NOMAD_REGION" $values.nomad.region)
  (list "NOMAD_SKIP_VERIFY" ($values.nomad.tls.skipVerify | ternary true nil))
  (list "CONSUL_HTTP_SSL_VERIFY" ($values.consul.tls.skipVerify | ternary false nil))
  (list "SECRETBINDING_INSTANCE" $values.instance)
  (list "SECRETBINDING_TENANCY" $values.tenancy.mode)
  (list "SECRETBINDING_POLICY_NAMESPACE" $values.tenancy.nomadNamespace)
  (list "SECRETBINDING_CONNECTIONS" (empty $values.connections | not | ternary "/etc/secretbinding/connections/connections.yaml" ""))
  (list "SECRETBINDING_WATCH_NAMESPACES" $values.watchNamespaces)) -}}
{{- with $values.nomad.existingSecret -}}
{{- $all = append $all (list "NOMAD_TOKEN_FILE" (printf "/etc/secretbinding/nomad/%s" $values.nomad.tokenKey)) -}}
{{- end -}}
{{- with $values.consul.existingSecret -}}
{{- $all = append $all (list "CONSUL_HTTP_TOKEN_FILE" (printf "/etc/secretbinding/consul/%s" $values.consul.tokenKey)) -}}
{{- end -}}
{{- range $name, $value := $values.controller -}}
{{- $all = append $all (list (printf "SECRETBINDING_%s" (snakecase $name | upper)) $value) -}}
{{- end -}}
{{- $agent := $values.agent -}}
{{- $all = concat $all (list
  (list "SECRETBINDING_AGENT_DRIVER" $agent.driver)
  (list "SECRETBINDING_AGENT_IMAGE" $agent.image)
  (list "SECRETBINDING_AGENT_COMMAND" $agent.command)
  (list "SECRETBINDING_AGENT_ARGS" (join " " $agent.args))
  (list "SECRETBINDING_AGENT_USER" $agent.user)
  (list "SECRETBINDING_AGENT_CPU" $agent.cpu)
  (list "SECRETBINDING_AGENT_MEMORY" $agent.memory)
  (list "SECRETBINDING_AGENT_MEMORY_MAX" $agent.memoryMax)
  (list "SECRETBINDING_AGENT_VAULT_ADDR" $agent.vaultAddress)
  (list "SECRETBINDING_AGENT_TLS_SERVER_NAME" $agent.tlsServerName)
  (list "SECRETBINDING_AGENT_ALLOW" $agent.allow)
  (list "SECRETBINDING_AGENT_APPROLE_MOUNT" $agent.approleMount)) -}}
{{- if $agent.ca.existingConfigMap -}}
{{- $all = append $all (list "SECRETBINDING_AGENT_CA_CERT" (printf "/etc/secretbinding/agent-ca/%s" $agent.ca.key)) -}}
{{- else if $agent.ca.existingSecret -}}
{{- $all = append $all (list "SECRETBINDING_AGENT_CA_CERT" (printf "/etc/secretbinding/agent-ca-secret/%s" $agent.ca.key)) -}}
{{- end -}}
{{- if include "secretbinding.elects" . -}}
{{- $all = concat $all (list
  (list "SECRETBINDING_ELECTION" "kubernetes")
  (list "SECRETBINDING_ELECTION_NAMESPACE" (include "secretbinding.namespace" .))
  (list "SECRETBINDING_ELECTION_SECONDS" $values.election.seconds)
  (list "SECRETBINDING_SHARDS" $values.shards)) -}}
{{- end -}}
{{- /* A pod is killed at the end of its grace: passes end before it, and the lease is given back. */}}
{{- $own := false -}}
{{- range $values.extraEnv -}}{{- if eq .name "SECRETBINDING_STOP_SECONDS" -}}{{- $own = true -}}{{- end -}}{{- end -}}
{{- if not $own -}}
{{- $grace := int $values.terminationGracePeriodSeconds -}}
{{- $all = append $all (list "SECRETBINDING_STOP_SECONDS" (max 1 (sub $grace 5) (div $grace 2))) -}}
{{- end -}}
{{- $all = append $all (list "SECRETBINDING_METRICS_ADDRESS" (printf "0.0.0.0:%d" (int $values.metrics.port))) -}}
{{- if include "secretbinding.webhooks" . -}}
{{- $all = concat $all (list
  (list "SECRETBINDING_ADMISSION_LISTEN" (printf "0.0.0.0:%d" (int $values.webhook.port)))
  (list "SECRETBINDING_ADMISSION_CERT" "/etc/secretbinding/webhook/tls.crt")
  (list "SECRETBINDING_ADMISSION_KEY" "/etc/secretbinding/webhook/tls.key")) -}}
{{- end -}}
{{- if $values.nacp.enabled -}}
{{- $all = concat $all (list
  (list "SECRETBINDING_NACP_LISTEN" (printf "0.0.0.0:%d" (int $values.nacp.port)))
  (list "SECRETBINDING_NACP_REFUSAL" $values.nacp.refusal)
  (list "SECRETBINDING_NACP_CERT" "/etc/secretbinding/nacp/tls.crt")
  (list "SECRETBINDING_NACP_KEY" "/etc/secretbinding/nacp/tls.key")
  (list "SECRETBINDING_NACP_CLIENT_CA" "/etc/secretbinding/nacp/ca.crt")) -}}
{{- end -}}
{{- if $values.audit.enabled -}}
{{- $all = concat $all (list
  (list "SECRETBINDING_AUDIT_LISTEN_ANYWHERE" true)
  (list "SECRETBINDING_AUDIT_LISTEN" (printf "0.0.0.0:%d" (int $values.audit.port)))) -}}
{{- end -}}
{{- range $all -}}
{{- include "secretbinding.env" (dict "name" (first .) "value" (last .)) -}}
{{- end -}}
{{- range $name, $of := dict "vault" $values.vault "nomad" $values.nomad "consul" $values.consul -}}
{{- include "secretbinding.tlsEnv" (dict "env" (upper $name) "name" $name "tls" $of.tls) -}}
{{- end -}}
{{- end -}}
