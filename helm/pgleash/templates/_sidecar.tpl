{{/*
What other charts include. With this chart as a dependency called pgleash, a pod template needs:

  metadata:
    annotations:
      checksum/pgleash: {{ include "pgleash.checksum" . | quote }}
  spec:
    enableServiceLinks: false   # else a Service called pgleash makes PGLEASH_ variables that are no options
    terminationGracePeriodSeconds: {{ include "pgleash.terminationGracePeriodSeconds" . }}
    initContainers:             # among the containers where pgleash.native is false
      {{- include "pgleash.sidecar" . | nindent 6 }}
    containers:
      - ...
        env:
          - {name: PGHOST, value: {{ include "pgleash.host" . | quote }}}
          - {name: PGPORT, value: {{ include "pgleash.port" . | quote }}}
    volumes:
      {{- include "pgleash.volumes" . | nindent 6 }}

Each takes the chart's own scope or the scope of a chart that depends on it; under an alias, pass .Subcharts.ALIAS.
`.Subcharts` is there since Helm 3.7.
*/}}

{{/* The container: one list item. */}}
{{- define "pgleash.sidecar" -}}
{{- with get .Subcharts "pgleash" | default . -}}
- name: {{ .Chart.Name }}
  image: {{ include "pgleash.image" . | quote }}
  imagePullPolicy: {{ .Values.image.pullPolicy }}
  {{- if .Values.native }}
  {{- if semverCompare "<1.29.0-0" .Capabilities.KubeVersion.Version }}
  {{- fail (printf "a native sidecar needs Kubernetes 1.29, this is %s: set native=false (or, when rendering without a cluster, give Helm its --kube-version)" .Capabilities.KubeVersion.Version) }}
  {{- end }}
  restartPolicy: Always
  {{- end }}
  args: [serve, --config, /etc/pgleash/pgleash.yaml]
  env:
    - name: POD_NAME
      valueFrom: {fieldRef: {fieldPath: metadata.name}}
    - name: POD_NAMESPACE
      valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
    - name: NODE_NAME
      valueFrom: {fieldRef: {fieldPath: spec.nodeName}}
    - name: CONTAINER_NAME
      value: {{ .Chart.Name }}
    {{- with .Values.env }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- if .Values.startupProbe.enabled }}
  startupProbe:
    {{- include "pgleash.connects" . | nindent 4 }}
    {{- toYaml (omit .Values.startupProbe "enabled") | nindent 4 }}
  {{- end }}
  {{- if .Values.livenessProbe.enabled }}
  livenessProbe:
    {{- include "pgleash.connects" . | nindent 4 }}
    {{- toYaml (omit .Values.livenessProbe "enabled") | nindent 4 }}
  {{- end }}
  resources:
    {{- toYaml .Values.resources | nindent 4 }}
  securityContext:
    {{- toYaml .Values.securityContext | nindent 4 }}
  volumeMounts:
    - name: {{ include "pgleash.volume" . }}
      mountPath: /etc/pgleash
      readOnly: true
    {{- with .Values.volumeMounts }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end -}}
{{- end -}}

{{/* The sidecar's volumes: list items. */}}
{{- define "pgleash.volumes" -}}
{{- with get .Subcharts "pgleash" | default . -}}
- name: {{ include "pgleash.volume" . }}
  configMap:
    name: {{ include "pgleash.configMap" . }}
{{- with .Values.volumes }}
{{ toYaml . }}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* A hash of the configuration: as an annotation of the pod template it makes a changed configuration roll out. */}}
{{- define "pgleash.checksum" -}}
{{- with get .Subcharts "pgleash" | default . -}}
{{- toYaml .Values.config | sha256sum -}}
{{- end -}}
{{- end -}}

{{/* Seconds that the pod needs to stop: the application's and, after them, drain_timeout. */}}
{{- define "pgleash.terminationGracePeriodSeconds" -}}
{{- with get .Subcharts "pgleash" | default . -}}
{{- add .Values.application.shutdownSeconds (include "pgleash.drainSeconds" .) -}}
{{- end -}}
{{- end -}}

{{/* Where clients in the pod find the proxy: PGHOST and PGPORT. */}}
{{- define "pgleash.host" -}}
{{- with get .Subcharts "pgleash" | default . -}}
{{- $host := include "pgleash.listen" . | regexFind "^.*:" | trimSuffix ":" | trimAll "[]" -}}
{{- get (dict "0.0.0.0" "127.0.0.1" "::" "::1") $host | default $host -}}
{{- end -}}
{{- end -}}

{{- define "pgleash.port" -}}
{{- with get .Subcharts "pgleash" | default . -}}
{{- include "pgleash.listen" . | regexFind "[0-9]+$" -}}
{{- end -}}
{{- end -}}
