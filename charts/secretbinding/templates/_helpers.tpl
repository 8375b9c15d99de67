{{- define "secretbinding.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

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

{{- define "secretbinding.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "secretbinding.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "secretbinding.selectorLabels" -}}
app.kubernetes.io/name: {{ include "secretbinding.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: controller
{{- end -}}

{{- define "secretbinding.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "secretbinding.selectorLabels" . }}
app.kubernetes.io/version: {{ .Values.image.tag | default .Chart.AppVersion | trunc 63 | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* metadata of an object: dict "root" $ "name" "" "labels" dict "annotations" dict "cluster" bool */}}
{{- define "secretbinding.metadata" -}}
{{- $annotations := merge (dict) (default (dict) .annotations) .root.Values.commonAnnotations -}}
name: {{ .name }}
{{- if not .cluster }}
namespace: {{ default (include "secretbinding.namespace" .root) .namespace }}
{{- end }}
labels:
  {{- include "secretbinding.labels" .root | nindent 2 }}
  {{- with .labels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with $annotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "secretbinding.image" -}}
{{- $image := .Values.image -}}
{{- $repository := $image.repository -}}
{{- if $image.registry -}}{{- $repository = printf "%s/%s" $image.registry $image.repository -}}{{- end -}}
{{- if $image.digest -}}
{{- printf "%s@%s" $repository $image.digest -}}
{{- else -}}
{{- printf "%s:%s" $repository ($image.tag | default .Chart.AppVersion) -}}
{{- end -}}
{{- end -}}

{{- define "secretbinding.webhookSecret" -}}
{{- if eq .Values.webhook.certificate.source "existing" -}}
{{- required "webhook.certificate.existingSecret is needed for webhook.certificate.source=existing" .Values.webhook.certificate.existingSecret -}}
{{- else -}}
{{- printf "%s-webhook" (include "secretbinding.fullname" .) -}}
{{- end -}}
{{- end -}}

{{- define "secretbinding.webhooks" -}}
{{- if and .Values.webhook.enabled .Values.sources.kubernetes.enabled -}}true{{- end -}}
{{- end -}}

{{/* Whether several replicas have to agree. */}}
{{- define "secretbinding.elects" -}}
{{- if or (gt (int .Values.replicas) 1) (gt (int .Values.shards) 1) -}}true{{- end -}}
{{- end -}}

{{/* One variable, when there is something to say: dict "name" "" "value" any */}}
{{- define "secretbinding.env" -}}
{{- if not (or (kindIs "invalid" .value) (eq (toString .value) "")) }}
- name: {{ .name }}
  value: {{ .value | toString | quote }}
{{- end }}
{{- end -}}

{{- define "secretbinding.checks" -}}
{{- $_ := required "vault.address is needed, such as https://vault.example.com:8200" .Values.vault.address -}}
{{- $_ := required "nomad.address is needed, such as https://nomad.example.com:4646" .Values.nomad.address -}}
{{- if not (or .Values.sources.kubernetes.enabled .Values.sources.nomad.enabled .Values.sources.files) -}}
{{- fail "no source of bindings is enabled: set sources.kubernetes.enabled, sources.nomad.enabled or sources.files" -}}
{{- end -}}
{{- if and (has .Values.vault.login.method (list "token" "approle")) (not .Values.vault.login.existingSecret) -}}
{{- fail (printf "vault.login.existingSecret is needed for vault.login.method=%s" .Values.vault.login.method) -}}
{{- end -}}
{{- if and (eq .Values.vault.login.method "cert") (not (and .Values.vault.tls.existingSecret .Values.vault.tls.client)) -}}
{{- fail "vault.tls.existingSecret and vault.tls.client are needed for vault.login.method=cert" -}}
{{- end -}}
{{- if and .Values.rbac.create .Values.watchNamespaces .Values.sources.kubernetes.enabled -}}
{{- range .Values.watchNamespaces -}}{{- if not . -}}{{- fail "watchNamespaces holds an empty name" -}}{{- end -}}{{- end -}}
{{- end -}}
{{- end -}}

{{- define "secretbinding.hook" -}}
helm.sh/hook: pre-delete
helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
{{- end -}}

{{/* A name for objects of the whole cluster, which no release of another namespace has. */}}
{{- define "secretbinding.clusterName" -}}
{{- join "-" (compact (list (include "secretbinding.namespace" .) (include "secretbinding.fullname" .))) | trunc 58 | trimSuffix "-" -}}
{{- end -}}
