{{/* Names, labels, and what is decided in more than one place. */}}

{{- define "secretbinding.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* Short enough for what is added to it. */}}
{{- define "secretbinding.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- $name := include "secretbinding.name" . -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "secretbinding.namespace" -}}
{{- default .Release.Namespace .Values.namespaceOverride -}}
{{- end -}}

{{/* A name for objects of the whole cluster, which no release of another namespace has: a-b of c is not a of b-c. */}}
{{- define "secretbinding.clusterName" -}}
{{- $namespace := include "secretbinding.namespace" . -}}
{{- $name := include "secretbinding.fullname" . -}}
{{- $joined := list $namespace $name | compact | join "-" -}}
{{- if contains "-" $namespace -}}
{{- $joined = printf "%s-%s" $joined (printf "%s/%s" $namespace $name | sha256sum | trunc 6) -}}
{{- end -}}
{{- $joined -}}
{{- end -}}

{{- define "secretbinding.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "secretbinding.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* Selects the controller's pods, and no other pod of the release. */}}
{{- define "secretbinding.selectorLabels" -}}
app.kubernetes.io/name: {{ include "secretbinding.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/component: controller
{{- end -}}

{{/* Labels of an object: dict "root" $ "labels" dict "component" "". Our own win over others, since selectors ask for them. */}}
{{- define "secretbinding.labels" -}}
{{- $root := .root -}}
{{- $own := dict
  "helm.sh/chart" (printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-")
  "app.kubernetes.io/name" (include "secretbinding.name" $root)
  "app.kubernetes.io/instance" $root.Release.Name
  "app.kubernetes.io/version" ($root.Values.image.tag | default $root.Chart.AppVersion | trunc 63 | trimSuffix "-")
  "app.kubernetes.io/managed-by" $root.Release.Service -}}
{{- if .component -}}{{- $_ := set $own "app.kubernetes.io/component" .component -}}{{- end -}}
{{- toYaml (mergeOverwrite (dict) $root.Values.commonLabels (default (dict) .labels) $own) -}}
{{- end -}}

{{/* metadata of an object: dict "root" $ "name" "" "labels" dict "annotations" dict "component" "" "namespace" "" "cluster" bool */}}
{{- define "secretbinding.metadata" -}}
name: {{ .name | quote }}
{{- if not .cluster }}
namespace: {{ default (include "secretbinding.namespace" .root) .namespace | quote }}
{{- end }}
labels:
  {{- include "secretbinding.labels" . | nindent 2 }}
{{- with mergeOverwrite (dict) .root.Values.commonAnnotations (default (dict) .annotations) }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "secretbinding.image" -}}
{{- $image := .Values.image -}}
{{- $registry := default $image.registry (default (dict) .Values.global).imageRegistry -}}
{{- $repository := $image.repository -}}
{{- if $registry -}}{{- $repository = printf "%s/%s" $registry $image.repository -}}{{- end -}}
{{- if $image.digest -}}
{{- printf "%s@%s" $repository $image.digest -}}
{{- else -}}
{{- printf "%s:%s" $repository ($image.tag | default .Chart.AppVersion) -}}
{{- end -}}
{{- end -}}

{{/* imagePullSecrets of a pod, also those of all charts; nothing where there are none. */}}
{{- define "secretbinding.pullSecrets" -}}
{{- $found := list -}}
{{- range concat (default (list) (default (dict) .Values.global).imagePullSecrets) .Values.imagePullSecrets -}}
{{- $found = append $found (dict "name" (kindIs "string" . | ternary . (get (kindIs "string" . | ternary (dict) .) "name"))) -}}
{{- end -}}
{{- with uniq $found }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end -}}
{{- end -}}

{{/* Where any pod of the release may run. */}}
{{- define "secretbinding.placement" -}}
{{- with .Values.priorityClassName }}
priorityClassName: {{ quote . }}
{{- end }}
{{- with .Values.runtimeClassName }}
runtimeClassName: {{ quote . }}
{{- end }}
{{- with .Values.schedulerName }}
schedulerName: {{ quote . }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "secretbinding.webhookName" -}}
{{- printf "%s-webhook" (include "secretbinding.fullname" .) -}}
{{- end -}}

{{- define "secretbinding.webhookSecret" -}}
{{- if eq .Values.webhook.certificate.source "existing" -}}
{{- required "webhook.certificate.existingSecret is needed for webhook.certificate.source=existing" .Values.webhook.certificate.existingSecret -}}
{{- else -}}
{{- include "secretbinding.webhookName" . -}}
{{- end -}}
{{- end -}}

{{- define "secretbinding.webhooks" -}}
{{- if and .Values.webhook.enabled .Values.sources.kubernetes.enabled -}}true{{- end -}}
{{- end -}}

{{/* Whether the pods agree by Leases who works. */}}
{{- define "secretbinding.elects" -}}
{{- $several := or (gt (int .Values.replicaCount) 1) (gt (int .Values.shards) 1) -}}
{{- if kindIs "bool" .Values.election.enabled | ternary .Values.election.enabled $several -}}true{{- end -}}
{{- end -}}

{{/* Whether all old pods have to end before new ones begin: without an election, and where those of before elect in another
way, since they would not know of each other. */}}
{{- define "secretbinding.recreates" -}}
{{- if not (include "secretbinding.elects" .) -}}
true
{{- else -}}
{{- range (lookup "apps/v1" "Deployment" (include "secretbinding.namespace" .) (include "secretbinding.fullname" .) | dig "spec" "template" "spec" "containers" (list)) -}}
{{- if eq .name "controller" -}}
{{- $shards := "none" -}}
{{- range .env -}}{{- if eq .name "SECRETBINDING_SHARDS" -}}{{- $shards = .value -}}{{- end -}}{{- end -}}
{{- if ne $shards (toString $.Values.shards) -}}true{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "secretbinding.asksForPolicies" -}}
{{- if eq .Values.tenancy.mode "policies" -}}true{{- end -}}
{{- end -}}

{{- define "secretbinding.clusterPolicies" -}}
{{- if and (include "secretbinding.asksForPolicies" .) .Values.tenancy.clusterPolicies -}}true{{- end -}}
{{- end -}}

{{- define "secretbinding.mountedPolicies" -}}
{{- if and (include "secretbinding.asksForPolicies" .) .Values.tenancy.policies (eq .Values.tenancy.policiesAs "Mounted") -}}true{{- end -}}
{{- end -}}

{{/* Whether the controller speaks to the API server. */}}
{{- define "secretbinding.asksCluster" -}}
{{- if or .Values.sources.kubernetes.enabled (include "secretbinding.elects" .) (include "secretbinding.clusterPolicies" .) -}}true{{- end -}}
{{- end -}}

{{/* Whether a pod needs the service account's token: for the API server, or since a further Vault is logged in to with it. */}}
{{- define "secretbinding.mountsToken" -}}
{{- $needed := include "secretbinding.asksCluster" . -}}
{{- range .Values.connections -}}
{{- if and (eq (toString .vault.login) "kubernetes") (not .vault.loginJwtFile) -}}{{- $needed = "true" -}}{{- end -}}
{{- end -}}
{{- $needed -}}
{{- end -}}

{{/* What of a binding the controller sees and writes. */}}
{{- define "secretbinding.bindingRules" -}}
- apiGroups: [nomad-vault.io]
  resources: [secretbindings]
  verbs: [get, list, watch, patch]
# Where the API server asks for the right to finalizers by itself.
- apiGroups: [nomad-vault.io]
  resources: [secretbindings/finalizers]
  verbs: [update]
- apiGroups: [nomad-vault.io]
  resources: [secretbindings/status]
  verbs: [patch]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create]
{{- end -}}

{{/* What of the whole cluster the controller sees. */}}
{{- define "secretbinding.clusterRules" }}
{{- if include "secretbinding.clusterPolicies" . }}
- apiGroups: [nomad-vault.io]
  resources: [secretbindingpolicies]
  verbs: [list, watch]
{{- end }}
{{- if and .Values.sources.kubernetes.enabled (include "secretbinding.asksForPolicies" .) }}
# Labels of tenants, where a policy asks for them.
- apiGroups: [""]
  resources: [namespaces]
  verbs: [list]
{{- end }}
{{- if and .Values.sources.kubernetes.enabled (not .Values.watchNamespaces) }}
{{ include "secretbinding.bindingRules" . }}
{{- end }}
{{- end }}

{{/* What ends the controller before its bindings are freed: it would take them again. */}}
{{- define "secretbinding.cleanupRules" }}
- apiGroups: [apps]
  resources: [deployments]
  resourceNames: [{{ include "secretbinding.fullname" . | quote }}]
  verbs: [get]
- apiGroups: [apps]
  resources: [deployments/scale]
  resourceNames: [{{ include "secretbinding.fullname" . | quote }}]
  verbs: [patch]
{{- end }}

{{/* A Role and who has it: dict "root" $ "kind" "ClusterRole" "name" "" "namespace" "" "account" "" "rules" "" "labels" dict
"annotations" dict "component" "" */}}
{{- define "secretbinding.granted" -}}
{{- $cluster := eq .kind "ClusterRole" -}}
{{- $metadata := include "secretbinding.metadata" (dict "root" .root "name" .name "namespace" .namespace "cluster" $cluster "annotations" .annotations "component" .component) -}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ .kind }}
metadata:
  {{- $metadata | nindent 2 }}
rules:
  {{- .rules | trim | nindent 2 }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ .kind }}Binding
metadata:
  {{- $metadata | nindent 2 }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: {{ .kind }}
  name: {{ .name | quote }}
subjects:
  - kind: ServiceAccount
    name: {{ .account | quote }}
    namespace: {{ include "secretbinding.namespace" .root | quote }}
{{ end -}}

{{/* What cannot work, by name and with what to do. */}}
{{- define "secretbinding.checks" -}}
{{- $values := .Values -}}
{{- $_ := required "vault.address is needed, such as https://vault.example.com:8200" $values.vault.address -}}
{{- $_ := required "nomad.address is needed, such as https://nomad.example.com:4646" $values.nomad.address -}}
{{- if not (or $values.sources.kubernetes.enabled $values.sources.nomad.enabled $values.sources.files) -}}
{{- fail "no source of bindings is enabled: set sources.kubernetes.enabled, sources.nomad.enabled or sources.files" -}}
{{- end -}}
{{- if and (has $values.vault.login.method (list "token" "approle")) (not $values.vault.login.existingSecret) -}}
{{- fail (printf "vault.login.existingSecret is needed for vault.login.method=%s" $values.vault.login.method) -}}
{{- end -}}
{{- if and (eq $values.vault.login.method "cert") (not $values.vault.tls.client) -}}
{{- fail "vault.tls.existingSecret and vault.tls.client are needed for vault.login.method=cert" -}}
{{- end -}}
{{- range $name, $tls := dict "vault" $values.vault.tls "nomad" $values.nomad.tls "consul" $values.consul.tls -}}
{{- if and $tls.client (not $tls.existingSecret) -}}
{{- fail (printf "%s.tls.existingSecret is needed for %s.tls.client: it holds the certificate" $name $name) -}}
{{- end -}}
{{- end -}}
{{- if and (include "secretbinding.asksForPolicies" .) (not (or $values.tenancy.clusterPolicies $values.tenancy.nomadNamespace (include "secretbinding.mountedPolicies" .))) -}}
{{- fail "nobody says what is allowed: set tenancy.policies, tenancy.clusterPolicies or tenancy.nomadNamespace; or tenancy.mode=open" -}}
{{- end -}}
{{- if and $values.tenancy.policies (eq $values.tenancy.policiesAs "Objects") (not $values.tenancy.clusterPolicies) -}}
{{- fail "tenancy.clusterPolicies is needed for tenancy.policiesAs=Objects: else nobody reads them" -}}
{{- end -}}
{{- if and (or (gt (int $values.replicaCount) 1) (gt (int $values.shards) 1)) (not (include "secretbinding.elects" .)) -}}
{{- fail "election.enabled=false goes with replicaCount=1 and shards=1 alone: several would work against each other" -}}
{{- end -}}
{{- range $name := $values.mounts.secrets -}}
{{- if has $name $values.mounts.configMaps -}}
{{- fail (printf "mounts: %s is a Secret and a ConfigMap, and both would be in one place" $name) -}}
{{- end -}}
{{- end -}}
{{- if and $values.metrics.enabled $values.metrics.serviceMonitor.enabled $values.metrics.podMonitor.enabled -}}
{{- fail "metrics.serviceMonitor.enabled and metrics.podMonitor.enabled are both true: every pod would be scraped twice" -}}
{{- end -}}
{{- if and .Release.IsInstall (include "secretbinding.webhooks" .) (eq $values.webhook.failurePolicy "Fail") $values.tenancy.policies (include "secretbinding.asksForPolicies" .) (eq $values.tenancy.policiesAs "Objects") -}}
{{- fail "webhook.failurePolicy=Fail and tenancy.policiesAs=Objects cannot be installed at once, since no controller answers for the policies yet: install with tenancy.policies={} or policiesAs=Mounted, and upgrade once it runs" -}}
{{- end -}}
{{- $stop := $values.controller.stopSeconds -}}
{{- if and (not (kindIs "invalid" $stop)) (ge (float64 (default 0 $stop)) (float64 $values.terminationGracePeriodSeconds)) -}}
{{- fail "controller.stopSeconds has to be less than terminationGracePeriodSeconds: the pod would be killed before" -}}
{{- end -}}
{{- $names := list -}}
{{- range $values.connections -}}
{{- if has .name $names -}}{{- fail (printf "connections: %s is there twice" .name) -}}{{- end -}}
{{- $names = append $names .name -}}
{{- end -}}
{{- $webhook := dict "enabled" (include "secretbinding.webhooks" .) "port" $values.webhook.port -}}
{{- $metrics := dict "enabled" true "port" $values.metrics.port -}}
{{- $listening := dict -}}
{{- range $name, $of := dict "metrics" $metrics "webhook" $webhook "nacp" $values.nacp "audit" $values.audit -}}
{{- if $of.enabled -}}
{{- $port := toString $of.port -}}
{{- if hasKey $listening $port -}}{{- fail (printf "%s.port and %s.port are both %s: one of them could not listen" (get $listening $port) $name $port) -}}{{- end -}}
{{- $_ := set $listening $port $name -}}
{{- end -}}
{{- end -}}
{{- if and $values.nacp.enabled (not $values.nacp.existingSecret) -}}
{{- fail "nacp.existingSecret is needed: who asks there has to show a certificate" -}}
{{- end -}}
{{- if and $values.networkPolicy.enabled $values.audit.enabled (not $values.networkPolicy.auditFrom) -}}
{{- fail "networkPolicy.auditFrom is needed: whoever reaches the audit port need not prove who he is" -}}
{{- end -}}
{{- end -}}
