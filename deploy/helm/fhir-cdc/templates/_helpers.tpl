{{- define "fhir-cdc.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "fhir-cdc.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- else if contains (include "fhir-cdc.name" .) .Release.Name }}
{{- .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "fhir-cdc.name" .) | trunc 63 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "fhir-cdc.selectorLabels" -}}
app.kubernetes.io/name: {{ include "fhir-cdc.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "fhir-cdc.labels" -}}
{{ include "fhir-cdc.selectorLabels" . }}
app.kubernetes.io/version: {{ .Values.image.tag | default .Chart.AppVersion | trunc 63 | trimAll "-_." | quote }}
app.kubernetes.io/part-of: fhir-cdc
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "fhir-cdc.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "fhir-cdc.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "fhir-cdc.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}
{{- end }}

{{/* The ConfigMap with config.yaml; empty if there is none. */}}
{{- define "fhir-cdc.configMapName" -}}
{{- if .Values.existingConfigMap.name }}
{{- if .Values.config }}
{{- fail "config and existingConfigMap.name exclude each other: set one of them" }}
{{- end }}
{{- .Values.existingConfigMap.name }}
{{- else if .Values.config }}
{{- include "fhir-cdc.fullname" . }}
{{- end }}
{{- end }}
