{{/* What only this chart's own templates use; each takes this chart's scope. */}}

{{- define "pgleash.selectorLabels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "pgleash.labels" -}}
{{ include "pgleash.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* A release's name has at most 53 characters: this fits into a name's 63 in all but odd aliases. */}}
{{- define "pgleash.configMap" -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "pgleash.volume" -}}
{{- printf "%s-config" .Chart.Name -}}
{{- end -}}

{{- define "pgleash.image" -}}
{{- with .Values.image -}}
{{- .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end -}}
{{- end -}}
{{- end -}}

{{/* The first address of config.listen, or the program's default. */}}
{{- define "pgleash.listen" -}}
{{- $listen := .Values.config.listen | default "127.0.0.1:6432" -}}
{{- kindIs "slice" $listen | ternary $listen (list $listen) | first -}}
{{- end -}}

{{/* The handler of the probes: succeeds when the proxy accepts a connection. */}}
{{- define "pgleash.connects" -}}
exec:
  command:
    - python3
    - -c
    - import socket; socket.create_connection(({{ include "pgleash.host" . | squote }}, {{ include "pgleash.port" . }}), 1).close()
{{- end -}}

{{/* config.drain_timeout in whole seconds, rounded up. */}}
{{- define "pgleash.drainSeconds" -}}
{{- $duration := .Values.config.drain_timeout | default "25s" | toString -}}
{{- $unit := get (dict "ms" 0.001 "s" 1 "m" 60 "h" 3600) (regexFind "[a-z]+$" $duration) | default 1 -}}
{{- mulf (regexFind "^[0-9.]+" $duration) $unit | ceil -}}
{{- end -}}
